"""Log-probs of chosen and rejected answers on Trainium, in fixed shapes, with logits for the answers only.

The head makes a logit for every word of the vocabulary, at every position, and only those that predict a token of an
answer are scored. So a fixed number of positions is picked before the head, from an answer's first scored one on: a
product with a matrix of zeros and ones, which is exact, has one shape however long the answer is, and reads no value.
Where the answer ends earlier, what else was picked is not scored; past the end of the row nothing is picked.

The log-probs come from Optimum Neuron's cross entropy, which also works where tensor parallelism spreads the
vocabulary over cores (`optimum/neuron/models/training/loss_utils.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from neuronx_distributed.parallel_layers.mappings import (
    gather_from_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
)
from optimum.neuron.models.training.loss_utils import fixed_cross_entropy

from helpers.objective.labels import IGNORE
from helpers.objective.shared_row import CHOSEN, REJECTED, is_part, shared_attention_mask


def mean_pair_logps(model, batch, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response, float32: two of shape (B,), in either layout.

    most: positions of each response that get logits; all positions of every row where it is None.
    """
    if "segment_ids" in batch:
        return shared_logps(model, batch, most)
    chosen, rejected = response_logps(model, batch["input_ids"], batch["labels"], most).chunk(2)
    return chosen, rejected


def summed_pair_logps(model, batch, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The same summed over each response's tokens, as DPO takes them."""
    chosen, rejected = mean_pair_logps(model, batch, most)
    scored = batch["labels"] != IGNORE
    if "segment_ids" in batch:
        chosen_tokens, rejected_tokens = (
            (scored & is_part(batch["segment_ids"], side)).sum(dim=1) for side in (CHOSEN, REJECTED)
        )
    else:
        chosen_tokens, rejected_tokens = scored.sum(dim=1).chunk(2)
    return chosen * chosen_tokens, rejected * rejected_tokens


def response_logps(model, input_ids: torch.Tensor, labels: torch.Tensor, most: int | None = None) -> torch.Tensor:
    """Mean token log-prob of each row's response, float32: (2B, L) and labels (2B, L) → (2B,).

    Rows are right-padded, so that causal attention needs no mask.
    """
    (logps,) = mean_logps(model, {"input_ids": input_ids}, [next_labels(labels)], most)
    return logps


def shared_logps(model, batch, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response, float32, from (B, W): one row a pair."""
    segments, targets = batch["segment_ids"], next_labels(batch["labels"])
    mask = shared_attention_mask(segments, next(model.parameters()).dtype)  # made on the device: W² numbers a pair
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "attention_mask": mask}
    sides = [targets.masked_fill(~is_part(next_labels(segments), side), IGNORE) for side in (CHOSEN, REJECTED)]
    chosen, rejected = mean_logps(model, inputs, sides, most)
    return chosen, rejected


def mean_logps(model, inputs: dict, sides: list[torch.Tensor], most: int | None) -> list[torch.Tensor]:
    """Mean log-prob of the targets of each side of every row: (R,) each. A side is (R, L), −100 where it has none."""
    if most is None or most * len(sides) >= sides[0].shape[1]:
        whole = token_nll(model(**inputs).logits, reduce(torch.maximum, sides))
        nlls = [whole] * len(sides)
    else:
        picks = [first_positions(side != IGNORE, most) for side in sides]
        sides = [picked_targets(side, pick) for side, pick in zip(sides, picks, strict=True)]
        with picking(model, torch.cat(picks, dim=1)):
            logits = model(**inputs).logits
        nlls = token_nll(logits, torch.cat(sides, dim=1)).chunk(len(sides), dim=1)
    scored = [side != IGNORE for side in sides]
    return [-(nll * own).sum(dim=1) / own.sum(dim=1) for nll, own in zip(nlls, scored, strict=True)]


def next_labels(labels: torch.Tensor) -> torch.Tensor:
    """Position t predicts token t + 1."""
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log p of each target, float32, 0 where it is −100: (rows, L, V) and (rows, L) → (rows, L).

    Under tensor parallelism the model returns the logits of this rank's part of the vocabulary, which
    `fixed_cross_entropy` overwrites: it is called once.
    """
    nll = fixed_cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return nll.view_as(targets)


# ── logits for the answers only ─────────────────────────────────────────────────────────────────────────────


def first_positions(scored: torch.Tensor, most: int) -> torch.Tensor:
    """The `most` positions from each row's first scored one on: (R, L) → (R, most, L), True where k is position t."""
    places = torch.arange(scored.shape[1], device=scored.device)
    first = torch.where(scored, places, scored.shape[1]).amin(dim=1)
    wanted = first[:, None] + torch.arange(most, device=scored.device)
    return wanted[:, :, None] == places


def picked_targets(targets: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
    """The targets at the picked positions, −100 past the end of the row: (R, L) and (R, K, L) → (R, K)."""
    return torch.where(picks, targets[:, None, :] - IGNORE, 0).sum(dim=-1) + IGNORE


@contextmanager
def picking(model, picks: torch.Tensor) -> Iterator[None]:
    """In this block the model's head sees only the picked positions, (R, K, L), and the logits are theirs."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parts = base.trn_config.sequence_parallel_enabled
    hook = base.get_output_embeddings().register_forward_pre_hook(
        lambda head, hidden: (picked_states(hidden[0], picks, parts),)
    )
    try:
        yield
    finally:
        hook.remove()


def picked_states(hidden: torch.Tensor, picks: torch.Tensor, parts: bool) -> torch.Tensor:
    """The hidden states at the picked positions, in the form in which the head expects them.

    That is (R, L, H) → (R, K, H); with sequence parallelism (`parts`) each rank has a part of the positions,
    (L ÷ ranks, R, H), and gets its part of the picked ones. Past the gather every rank computes the same, so that each
    takes its own part of the gradient, and no sum.
    """
    picks = picks.to(hidden.dtype)
    if not parts:
        return picks @ hidden
    whole = gather_from_sequence_parallel_region(hidden, to_model_parallel=False).transpose(0, 1)
    return scatter_to_sequence_parallel_region((picks @ whole).transpose(0, 1).contiguous())
