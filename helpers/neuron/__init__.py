"""All that is Trainium. Importing this package needs no accelerator software; using its trainers does."""

import importlib

MODULES = {
    "NeuronORPOConfig": "helpers.neuron.orpo",
    "NeuronORPOTrainer": "helpers.neuron.orpo",
    "NeuronSFTTrainer": "helpers.neuron.zero",
}
__all__ = [*MODULES]


def __getattr__(name: str):
    if name in MODULES:
        return getattr(importlib.import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
