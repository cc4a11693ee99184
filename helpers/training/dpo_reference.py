"""DPO's reference log-probs: computed once, before training, and kept beside the data.

The reference is the model as it is before the first step. So no second model is needed: one pass over the data gives
two numbers a pair, the columns `ref_chosen_logps` and `ref_rejected_logps` (sums over the response's tokens, nats).
"""

import math

from datasets import Dataset

from helpers.data.collate import PreferenceCollator
from helpers.data.schema import REFERENCE, SIDES
from helpers.data.tokenize import response_tokens
from helpers.objective.chunked_logprobs import chunking_obstacle
from helpers.objective.logprobs import evaluating, pair_logps
from helpers.runs.progress import Bar
from helpers.training.layout_check import shared_row_obstacle

# How far reference and model may be apart in the sum over a response: a nat, and a share of the sum. SmolLM2-135M with
# its weights in bf16 was within 0.42 of that on the built-in domain (0.6 nats of 25 to 130), where after SFT it is off
# by tens of nats.
NATS, TOLERANCE = 1.0, 0.01
FIX = "recompute them with with_reference_logps"


# ── the reference ───────────────────────────────────────────────────────────────────────────────────────────


def with_reference_logps(tokenized: Dataset, model, pad_token_id: int, batch_size: int = 8) -> Dataset:
    """The output of `tokenize_preferences` with the reference's summed log-probs (nats) in two more columns.

    `model` is the reference: call this before the first step. It costs one forward pass over the data.
    """
    logps = summed_logps(tokenized, model, pad_token_id, batch_size)
    return refuse_non_finite_reference(with_columns(tokenized, logps))


def with_columns(tokenized: Dataset, logps: dict[str, list[float]]) -> Dataset:
    """The data set with these reference columns in place of those it may have."""
    tokenized = tokenized.remove_columns([name for name in REFERENCE if name in tokenized.column_names])
    for name in REFERENCE:
        tokenized = tokenized.add_column(name, logps[name])
    return tokenized


def summed_logps(tokenized: Dataset, model, pad_token_id: int, batch_size: int = 8) -> dict[str, list[float]]:
    """{column: summed log-prob of each row's response}, in the fastest layout that is right for the model."""
    shared = shared_row_obstacle(model, [tokenized], None) is None
    collate, chunked = (
        PreferenceCollator(pad_token_id, "shared" if shared else "rows"),
        chunking_obstacle(model) is None,
    )
    sums = {name: [] for name in REFERENCE}
    with evaluating(model):
        for start in Bar(range(0, len(tokenized), batch_size), desc="Reference log-probs"):
            rows = list(tokenized.select(range(start, min(start + batch_size, len(tokenized)))))
            batch = {name: tensor.to(model.device) for name, tensor in collate(rows).items()}
            for name, side, means in zip(REFERENCE, SIDES, pair_logps(model, batch, chunked), strict=True):
                lengths = [response_tokens(row, side) for row in rows]
                sums[name] += [mean * length for mean, length in zip(means.tolist(), lengths, strict=True)]
    return sums


# ── what may be wrong with it ───────────────────────────────────────────────────────────────────────────────


def refuse_other_reference(
    tokenized: Dataset, model, pad_token_id: int, rows: int = 4, tolerance: float = TOLERANCE
) -> None:
    """Raise a ValueError that names the row whose reference log-probs are not this model's, or not finite.

    Call this before the first step, when the policy still is the reference. A few rows, spread over the data, are
    computed again; `tolerance` is relative, on top of NATS.
    """
    refuse_non_finite_reference(tokenized)
    few = tokenized.select(spread(len(tokenized), rows))
    refuse_difference(few, summed_logps(few, model, pad_token_id), tolerance)


def spread(length: int, rows: int) -> range:
    """Up to `rows` positions of a data set, evenly spread."""
    return range(0, length, max(1, -(-length // rows)))


def refuse_difference(few: Dataset, logps: dict[str, list[float]], tolerance: float = TOLERANCE) -> None:
    """Raise a ValueError where the reference columns are not the log-probs (per column) that a model just gave."""
    for name in REFERENCE:
        for row, stored, found in zip(few["row"], few[name], logps[name], strict=True):
            if not abs(stored - found) <= NATS + tolerance * abs(found):
                raise ValueError(
                    f"row {row}: {name} is {stored:.2f} and this model gives {found:.2f}: the reference log-probs "
                    f"were made with another model or tokenizer: {FIX}"
                )


def refuse_non_finite_reference(tokenized: Dataset) -> Dataset:
    """The data set; raises a ValueError that names the first row with a missing, NaN or infinite log-prob."""
    for name in REFERENCE:
        if name not in tokenized.column_names:
            raise ValueError(f"the data set has no column {name}: make it with with_reference_logps")
        for row, value in zip(tokenized["row"], tokenized[name], strict=True):
            if value is None or not math.isfinite(value):
                raise ValueError(f"row {row}: {name} is {value}: look at that row; if it reads well, {FIX} in float32")
    return tokenized
