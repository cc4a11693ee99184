"""Log-probabilities of chosen and rejected responses, from one forward pass over a collated batch.

A batch comes from `helpers.data.PreferenceCollator` in one of two layouts:

- "rows", the textbook one: B chosen rows, then B rejected rows, each prompt + response, right-padded;
- "shared", the fast one: what pairs have in common is computed once (`helpers.objective.shared_row`).

In either, `chunked` takes log-probs of the response tokens straight from the hidden states
(`helpers.objective.chunked_logprobs`). Without it, the logits of every position are computed first, as in a textbook.
The numbers are the same.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F

from helpers.objective.chunked_logprobs import chunked_logps
from helpers.objective.labels import IGNORE
from helpers.objective.shared_row import response_index, shared_attention_mask


@contextmanager
def evaluating(model):
    """Evaluation mode without gradients; the mode the model was in comes back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def token_logps(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p(label) at every position, float32; 0 where the label is −100. (rows, T, V), (rows, T) → (rows, T)."""
    losses = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view_as(labels)


def mean_logps(logps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labelled tokens of each row: (rows, T), (rows, T) → (rows,)."""
    return logps.sum(-1) / (labels != IGNORE).sum(-1)


def pair_logps(model, batch, chunked: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response: two float32 tensors of shape (B,)."""
    sums, tokens = _sums_and_tokens(model, batch, chunked)
    chosen, rejected = (sums / tokens).chunk(2)
    return chosen, rejected


def summed_pair_logps(model, batch, chunked: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed token log-probs of the same, as DPO takes them."""
    chosen, rejected = _sums_and_tokens(model, batch, chunked)[0].chunk(2)
    return chosen, rejected


def _sums_and_tokens(model, batch, chunked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probs of the responses and their tokens, B chosen, then B rejected: two of shape (2B,)."""
    if "segment_ids" in batch:
        return _shared_sums_and_tokens(model, batch, chunked)
    labels = batch["labels"][:, 1:]  # position t predicts token t + 1
    if chunked:
        scored = labels != IGNORE
        logps = torch.zeros(labels.shape, device=labels.device)
        found = chunked_logps(model, row_inputs(batch), lambda hidden: hidden[:, :-1][scored], labels[scored])
        logps = logps.masked_scatter(scored, found)
    else:
        logps = token_logps(next_token_logits(model, batch), labels)
    return logps.sum(-1), (labels != IGNORE).sum(-1)


def row_inputs(batch) -> dict[str, torch.Tensor]:
    """What a model reads of a "rows" batch."""
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def next_token_logits(model, batch) -> torch.Tensor:
    """Logits for tokens 1 … L−1 of every row of a "rows" batch: (2B, L−1, V). Position t predicts token t+1."""
    return model(**row_inputs(batch), use_cache=False).logits[:, :-1]


def _shared_sums_and_tokens(model, batch, chunked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [_row_logps(model, batch, row, chunked) for row in range(len(batch["input_ids"]))]
    logps, segments = (torch.cat(part) for part in zip(*parts, strict=True))
    pairs = len(batch["row"])
    response = response_index(segments, pairs)
    sums = torch.zeros(2 * pairs, device=logps.device).index_add(0, response, logps)
    return sums, torch.bincount(response, minlength=2 * pairs)


def _row_logps(model, batch, row: int, chunked: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (float32) of the response tokens of one shared row, and their segments: two of shape (N,)."""
    length = int((batch["segment_ids"][row] >= 0).sum())  # each row runs alone, so none needs its padding
    segments, labels = (batch[name][row : row + 1, :length] for name in ("segment_ids", "labels"))
    inputs = {name: batch[name][row : row + 1, :length] for name in ("input_ids", "position_ids")}
    inputs["attention_mask"] = row_mask(getattr(model, "module", model), segments)
    labels, segments = labels[:, 1:], segments[:, 1:]  # position t predicts token t + 1
    scored = labels != IGNORE
    if chunked:
        last = row == len(batch["input_ids"]) - 1  # the backward pass begins with it
        logps = chunked_logps(model, inputs, lambda hidden: hidden[:, :-1][scored], labels[scored], keep=last)
    else:
        logps = token_logps(model(**inputs, use_cache=False).logits[:, :-1][scored], labels[scored])
    return logps, segments[scored]


def row_mask(model, segments: torch.Tensor) -> torch.Tensor:
    """The additive mask of the "shared" layout in the model's number format; autocast casts it at next to no price."""
    return shared_attention_mask(segments, model.dtype)
