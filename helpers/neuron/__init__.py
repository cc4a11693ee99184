"""All that is Trainium. Importing this package needs no accelerator software; using its trainers does.

SFT, ORPO and DPO. RLHF on Trainium is out of scope: it samples answers between its steps, which takes a compiled
inference model and a reward model beside the one that is trained.
"""

import importlib

MODULES = {
    "NeuronDPOConfig": "helpers.neuron.dpo",
    "NeuronDPOTrainer": "helpers.neuron.dpo",
    "NeuronORPOConfig": "helpers.neuron.orpo",
    "NeuronORPOTrainer": "helpers.neuron.orpo",
    "NeuronSFTConfig": "helpers.neuron.sft",
    "NeuronSFTTrainer": "helpers.neuron.sft",
}
__all__ = [*MODULES]


def __getattr__(name: str):
    if name in MODULES:
        return getattr(importlib.import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
