"""The shared row: pairs laid end to end in one row of tokens, so that what they share is computed once.

A row is the tokens with which all prompts of a batch begin (system message, header), then for each pair the rest of
its prompt, its chosen and its rejected response. Every token carries its segment:

    −1 padding · 0 the common beginning · 3i + 1 the prompt of pair i · 3i + 2 its chosen, 3i + 3 its rejected response

Either response is preceded, in its segment, by the prompt's last token, which predicts its first. Positions go on
from the beginning in every prompt, and from the prompt in either response; the mask hides one response, and one pair,
from the other. So every log-prob is that of a row of its own. This module alone knows the numbering: it lays rows out
(`lay_out`), tells the segments apart again (`is_part`, `response_index`) and masks them (`shared_attention_mask`).
"""

import itertools

import torch

from helpers.objective.labels import IGNORE

PADDING, BEGINNING = -1, 0
PROMPT, CHOSEN, REJECTED = 1, 2, 3  # of pair 0; those of pair i are 3i higher
FILLS = {"labels": IGNORE, "position_ids": 0, "segment_ids": PADDING}  # what fills a row up; `input_ids` aside


# ── encode ──────────────────────────────────────────────────────────────────────────────────────────────────


def lay_out(examples: list[dict], row_tokens: int) -> list[dict[str, list[int]]]:
    """Tokenised pairs → rows of about `row_tokens` tokens (0: one pair a row), not padded.

    A pair has `chosen_input_ids`, `rejected_input_ids` and `prompt_length`. A row has `input_ids`, `labels`,
    `position_ids` and `segment_ids`. A pair that is longer than `row_tokens` has a row of its own.
    """
    common, rows = common_beginning(examples), []
    start = len(common)
    for pair, example in enumerate(examples):
        last = example["prompt_length"] - 1
        chosen, rejected = example["chosen_input_ids"], example["rejected_input_ids"]
        if not rows or len(rows[-1]["input_ids"]) + shared_tokens(example) - start > row_tokens:
            rows.append({"input_ids": [], "labels": [], "position_ids": [], "segment_ids": []})
            _extend(rows[-1], common, 0, BEGINNING)
        _extend(rows[-1], chosen[start:last], start, 3 * pair + PROMPT)
        _extend(rows[-1], chosen[last:], last, 3 * pair + CHOSEN, labelled=len(chosen) - last - 1)
        _extend(rows[-1], rejected[last:], last, 3 * pair + REJECTED, labelled=len(rejected) - last - 1)
    return rows


def common_beginning(examples: list[dict]) -> list[int]:
    """The tokens with which the prompts of all examples begin; each prompt keeps a last token of its own."""
    prompts = [example["chosen_input_ids"][: example["prompt_length"] - 1] for example in examples]
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return [tokens[0] for tokens in alike]


def shared_tokens(example: dict) -> int:
    """How many tokens a pair takes in a shared row, with nothing in common with other pairs."""
    return len(example["chosen_input_ids"]) + len(example["rejected_input_ids"]) - example["prompt_length"] + 1


def _extend(row: dict[str, list[int]], tokens: list[int], position: int, segment: int, labelled: int = 0) -> None:
    """Append tokens to a row; the last `labelled` of them are to be predicted."""
    row["input_ids"] += tokens
    row["labels"] += [IGNORE] * (len(tokens) - labelled) + tokens[len(tokens) - labelled :]
    row["position_ids"] += range(position, position + len(tokens))
    row["segment_ids"] += [segment] * len(tokens)


# ── decode ──────────────────────────────────────────────────────────────────────────────────────────────────


def is_part(segments: torch.Tensor, part: int) -> torch.Tensor:
    """Where any pair has its PROMPT, CHOSEN or REJECTED: a bool tensor of the same shape, with no look at values."""
    return (segments > BEGINNING) & (segments % 3 == part % 3)


def response_index(segments: torch.Tensor, pairs: int) -> torch.Tensor:
    """The segments of responses of `pairs` pairs → places in a list: chosen i → i, rejected i → pairs + i."""
    return (segments - CHOSEN) % 3 * pairs + (segments - CHOSEN) // 3


# ── mask ────────────────────────────────────────────────────────────────────────────────────────────────────


def may_look(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether a position of segment `query` may look back at one of segment `key`; any shapes that broadcast, bool.

    It may look at its own segment, at the common beginning and, from a response, at the prompt of its pair. Padding
    looks at padding: a row of the softmax with nothing to look at would be NaN.
    """
    own_prompt = (key > BEGINNING) & (key == query - (query - PROMPT) % 3)
    return (key == query) | ((query > BEGINNING) & ((key == BEGINNING) | own_prompt))


def shared_attention_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask for segments (R, W), shape (R, 1, W, W): 0 where position i may look at position j."""
    allowed = torch.tril(may_look(segments[:, :, None], segments[:, None, :]))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    # Half of the lowest number: under autocast float32's lowest would be −inf in bf16
    return mask.masked_fill(~allowed, torch.finfo(dtype).min / 2)[:, None]
