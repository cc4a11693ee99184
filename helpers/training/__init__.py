"""Trainers on PyTorch: the profile, the base model, the arguments and adapter that SFT and ORPO share, ORPO and DPO.

Evaluation, neuron and everything above may import this room; it imports `objective`, `data` and `runs`.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "profiles": "PROFILES Profile get_profile",
        "base_model": "find_base_model load_base load_config load_model load_tokenizer",
        "recipe": "lora merged_model price_of_a_step stage_settings training_arguments training_summary",
        "orpo": "ORPOConfig ORPOTrainer",
    },
)
