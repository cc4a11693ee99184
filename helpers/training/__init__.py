"""Trainers on PyTorch: the profile, the base model, the arguments and adapter that SFT and ORPO share, and the trainers
of SFT, ORPO and DPO. And the arithmetic on paper that others build on: a model's sizes (`sizes`), a step's memory and
work (`step_memory`).

Evaluation, neuron and everything above may import this room; it imports `objective`, `data` and `runs`.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "profiles": "PROFILES Profile get_profile",
        "base_model": "find_base_model load_base load_config load_model load_tokenizer",
        "recipe": "lora price_of_a_step training_arguments",
        "stages": "find_stage load_trained train_stage",
        "sft": "SFTTrainer",
        "orpo": "ORPOConfig ORPOTrainer",
    },
)
