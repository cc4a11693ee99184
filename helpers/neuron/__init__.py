"""All that is Trainium: trainers for Optimum Neuron, estimates, refusals, and the compile cache in its own package.

Importing this room needs no accelerator software; using its trainers does. Backends, show and techniques may import it;
it imports evaluation and what lies below. RLHF on Trainium is out of scope: it samples answers between its steps, which
takes a compiled inference model and a reward model beside the one that is trained.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "orpo": "NeuronORPOConfig NeuronORPOTrainer",
        "dpo": "NeuronDPOConfig NeuronDPOTrainer",
        "sft": "NeuronSFTConfig NeuronSFTTrainer",
        "estimates": "MODELS memory_per_core memory_table padding_share saving_table",
        "refusals": "refuse_uneven",
        "shapes": "depends_on_data settle_shapes",
        "run": "can_rehearse command_text on_cores recorded_rehearsal rehearse_both train_command train_on_trainium",
    },
)
