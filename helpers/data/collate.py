"""Tokenised pairs → batches, as two padded rows a pair or as one shared row a pair."""

from dataclasses import dataclass

import torch
from datasets import Dataset

from helpers.data.schema import REFERENCE, SIDES
from helpers.objective.labels import IGNORE
from helpers.objective.shared_row import FILLS, lay_out, shared_tokens


@dataclass
class PreferenceCollator:
    """Tokenised pairs → one batch of tensors. B pairs, in one of two layouts:

    "rows", the textbook one: `input_ids`, `attention_mask`, `labels` of shape (2B, L): B chosen rows, then B
    rejected ones, right-padded to the longest, or to `max_length` if given (one fixed shape, as Trainium needs).

    "shared", the fast one: pairs laid end to end in rows of about `row_tokens`, what they share computed once:
    `input_ids`, `labels`, `position_ids`, `segment_ids` of shape (R, W), as `helpers.objective.shared_row` says. With
    `max_length`, W is that and every pair has a row of its own.

    Both carry `row` (B,), the position of each pair in its data set, so that a message can name it, and where the pairs
    have them DPO's `ref_chosen_logps` and `ref_rejected_logps` (B,), float32.
    """

    pad_token_id: int
    layout: str = "rows"
    max_length: int | None = None
    row_tokens: int = 512

    def __post_init__(self):
        if self.layout not in ("rows", "shared"):
            raise ValueError(f"layout {self.layout!r}: choose 'rows' or 'shared'")
        if self.pad_token_id is None:
            raise ValueError("the tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token")

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        batch = {"row": torch.tensor([example["row"] for example in examples])}
        for name in REFERENCE:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        return batch | (self._shared(examples) if self.layout == "shared" else self._rows(examples))

    def _rows(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        def stack(key: str) -> list[list[int]]:
            return [example[f"{side}_{key}"] for side in SIDES for example in examples]

        input_ids = _pad(stack("input_ids"), self.pad_token_id, self.max_length)
        labels = _pad(stack("labels"), IGNORE, self.max_length)
        # From the lengths, not from the pad token: where pad equals EOS a comparison would hide the EOS.
        lengths = torch.tensor([len(row) for row in stack("input_ids")])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def _shared(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        rows = lay_out(examples, 0 if self.max_length else self.row_tokens)
        fills = {"input_ids": self.pad_token_id} | FILLS
        return {key: _pad([row[key] for row in rows], fill, self.max_length) for key, fill in fills.items()}


def shared_row_length(tokenized: Dataset) -> int:
    """A fixed length for one pair a row: that of the longest, rounded up to a multiple of 64."""
    return -(-max(map(shared_tokens, tokenized)) // 64) * 64


def _pad(rows: list[list[int]], fill: int, length: int | None = None) -> torch.Tensor:
    longest = max(map(len, rows))
    width = length or longest
    if longest > width:
        raise ValueError(f"a row has {longest} tokens and the batch {width}: tokenise with max_length={width}")
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.long)
