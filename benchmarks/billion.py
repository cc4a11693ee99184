"""Models of a billion random weights for `make bench BENCH_ARGS="--parts long"`. Never run: no GPU was at hand."""

import torch
from transformers import LlamaConfig

from helpers.training.base_model import SMOKE, load_config, load_tokenizer, made_model

LLAMA_1B = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64}
LLAMA_1B |= {"num_attention_heads": 32, "num_key_value_heads": 8}  # the shape of Llama 3.2 1B
BILLION = {
    "llama-1b": LLAMA_1B,  # with the vocabulary of SmolLM2
    "llama-1b-151k": LLAMA_1B | {"vocab_size": 151_936},  # with one of the size of Qwen3's
}


def config_of(name: str) -> LlamaConfig:
    """SmolLM2's config in the sizes of that name."""
    config = load_config(SMOKE)
    config.update(BILLION[name])
    return config


def model_and_tokenizer(name: str, dtype: torch.dtype) -> tuple:
    """A model of `BILLION` and SmolLM2's tokenizer."""
    return made_model(config_of(name)).to(dtype), load_tokenizer(SMOKE)
