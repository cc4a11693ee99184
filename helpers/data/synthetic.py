"""Pairs of random words: for measuring time and memory, where only the lengths matter."""

import torch
from datasets import Dataset

from helpers.data.schema import SIDES


def random_pairs(tokenizer, count: int, prompt_tokens: int, response_tokens: int, seed: int = 0) -> Dataset:
    """Pairs of random words of about these lengths, to measure time and memory with."""
    draw = torch.Generator().manual_seed(seed)

    def message(role: str, tokens: int) -> list[dict]:
        words = tokenizer.decode(torch.randint(1000, 20_000, (tokens,), generator=draw))
        return [{"role": role, "content": words.replace("\n", " ")}]

    sides = (("prompt", "user", prompt_tokens), *((side, "assistant", response_tokens) for side in SIDES))
    return Dataset.from_list([{side: message(role, n) for side, role, n in sides} for _ in range(count)])
