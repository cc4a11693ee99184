"""Checks of the exercises on the notebooks beyond the hour: 05, fixed shapes on Trainium; 07, DPO and RLHF."""

import math

import numpy as np

from helpers.exercises.check import check

# ── 05: fixed shapes on Trainium ────────────────────────────────────────────────────────────────────────────


@check("Every new shape is a new graph, and a cold one takes minutes on Trainium: pad to one length.")
def check_shapes(answer, lengths: list[list[int]]) -> str | None:
    """How many shapes batches of rows with these lengths have, each padded to its own longest row."""
    shapes = {(len(batch), max(batch)) for batch in lengths}
    if answer == len({length for batch in lengths for length in batch}):
        return "those are the lengths of rows: a batch is padded to its longest row, and is one shape"
    if answer == len(lengths):
        return "two batches of the same size and longest row have the same shape, and share a graph"
    return None if answer == len(shapes) else f"the shapes are (rows, longest row) of each batch: {lengths}"


@check("Sequence parallelism gives every core an equal part of the row.")
def check_max_length(answer, longest: int, tensor_parallel_size: int) -> str | None:
    """The smallest max_length that holds the longest row and that the tensor-parallel cores divide."""
    if answer < longest:
        return f"the longest row has {longest} tokens: {answer} would cut it"
    if answer % tensor_parallel_size:
        return (
            f"{tensor_parallel_size} cores can't divide {answer} tokens: {answer % tensor_parallel_size} are left over"
        )
    return None if answer - tensor_parallel_size < longest else f"{answer - tensor_parallel_size} would do as well"


@check("Padding is read, so that the shape is fixed, and has the label −100, so that nobody learns it.")
def check_padded(answer) -> str | None:
    """A function (input_ids, labels, max_length, pad_id) → both as lists of max_length, padded on the right."""
    ids, labels = answer([5, 6, 7], [-100, 6, 7], 5, 0)
    if len(ids) != 5 or len(labels) != 5:
        return f"the row has 5 places, yours {len(ids)} tokens and {len(labels)} labels"
    if list(ids) != [5, 6, 7, 0, 0]:
        return f"the tokens are {list(ids)}: keep what is there, and put the pad token after it"
    if list(labels) == [-100, 6, 7, 0, 0]:
        return "a label of 0 is a token to learn: the model would learn to write padding; use −100"
    return None if list(labels) == [-100, 6, 7, -100, -100] else f"the labels are {list(labels)}: −100 after the answer"


# ── 07: DPO and RLHF ────────────────────────────────────────────────────────────────────────────────────────


@check("Policy and reference are one at the start: every log-ratio is 0, whatever β is.")
def check_first_loss(answer) -> str | None:
    """DPO's loss before its first step."""
    if math.isclose(answer, 0.0, abs_tol=1e-9):
        return "the log-ratios are 0, the loss is not: −log σ(0)"
    return None if math.isclose(answer, math.log(2), rel_tol=1e-3) else "−log σ(x) at x = 0, with σ(0) = 1/2"


@check("A margin in log-ratios is divided by β: a small β lets the policy move far before the loss is satisfied.")
def check_dpo_beta(answer, log_ratio_margin: float, reward_margin: float) -> str | None:
    """The beta at which a margin of log-ratios is the given margin of implicit rewards."""
    right = reward_margin / log_ratio_margin
    if math.isclose(answer, 1 / right, rel_tol=1e-3) and right != 1:
        return "upside down: the implicit reward is β times the log-ratio"
    return None if math.isclose(answer, right, rel_tol=1e-3) else f"β · {log_ratio_margin:g} must be {reward_margin:g}"


@check("The baseline leaves out the answer itself, so that it does not depend on what it is subtracted from.")
def check_advantages(answer) -> str | None:
    """A function from the rewards of one prompt's answers to RLOO's advantages."""
    for rewards in ([1.0, 3.0], [0.0, 3.0, 6.0]):
        others = [(sum(rewards) - reward) / (len(rewards) - 1) for reward in rewards]
        right = [reward - other for reward, other in zip(rewards, others, strict=True)]
        found = [float(value) for value in answer(rewards)]
        if np.allclose(found, [reward - sum(rewards) / len(rewards) for reward in rewards]):
            return "that is the mean of all answers, the answer itself among them: leave it out of its own baseline"
        if np.allclose(found, [-value for value in right]):
            return "the sign: an answer better than the others has a positive advantage"
        if not np.allclose(found, right):
            return f"for rewards {rewards} the advantages are {right}, not {found}"
    return None
