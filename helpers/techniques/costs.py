"""What a technique needs, worked out by hand: passes, models, memory. `measure` puts a number beside each.

The memory of a step, for a model whose weights take W bytes, trained in full with AdamW (arXiv 1711.05101):

    other models    W for a reference that runs beside the policy, and for a reward model
    optimizer       2 W: two moments a weight
    activations     what the backward pass needs of every layer, for every position of every row
    logits          how many copies of (positions × vocabulary) are alive when the backward pass begins
    gradients       W when it ends, by when activations and logits are gone: the larger of the two moments counts

Under LoRA optimizer and gradients are those of the adapter, and the reference is the policy without it. The account
itself is `helpers.training.step_memory`, which the planner for Trainium uses too.
"""

import math
from dataclasses import dataclass, replace

from helpers.data.collate import PreferenceCollator
from helpers.objective.chunked_logprobs import LOGIT_ROWS
from helpers.training.sizes import Sizes
from helpers.training.step_memory import FLOAT32, TECHNIQUES, Split, Technique, at_peak, step_memory

BYTES = FLOAT32.weight
RLHF = (
    "RLHF's last stage works on sampled answers: for each its generation token by token, then without gradient the "
    "policy's log-prob, the reference's and the reward model's word, then one pass that trains"
)


def name_of(stage: str) -> str:
    """What a measured stage is called; RLHF's last stage has passes of its own kind."""
    return TECHNIQUES[stage].name if stage in TECHNIQUES else "RLHF, policy optimisation"


@dataclass(frozen=True)
class Step:
    """One step: pairs, and tokens of the prompt and of each answer; of the prompt, `common` begin every prompt.

    `lora` counts the adapter's weights, 0 for none.
    """

    pairs: int
    prompt: int
    response: int
    common: int = 0
    lora: int = 0


def positions(technique: Technique, step: Step) -> tuple[int, int]:
    """(positions that a step trains on, positions in a row, for each of which a row of the mask is kept)."""
    if technique.shared:
        own = step.pairs * (step.prompt - step.common + 2 * step.response)
        rows = math.ceil(own / PreferenceCollator.row_tokens)
        return own + rows * step.common, min(own + step.common, PreferenceCollator.row_tokens)
    length = step.prompt + step.response
    return step.pairs * technique.trained * length, length


def estimate(technique: Technique, sizes: Sizes, step: Step) -> dict[str, float]:
    """Bytes above the loaded base by part, and their `total`, the larger of the two moments of the backward pass."""
    head = BYTES * sizes.embedding
    count, keys = positions(technique, step)
    numbers, logits = replace(FLOAT32, logit=BYTES * technique.copies), None
    if technique.shared:  # blocks of logits; where the head learns one is kept, and its gradient is summed from parts
        logits = BYTES * LOGIT_ROWS * sizes.vocabulary * (1 if step.lora else 2) + (0 if step.lora else head)
    parts = step_memory(sizes, technique, count, keys, numbers, Split(lora=step.lora), logits)
    del parts["weights"]  # those of the base are there before, those of the adapter next to nothing
    peak = at_peak(parts, FLOAT32, 0 if step.lora else head)
    parts["logits"] += 0 if step.lora else head  # the head's gradient, made while they are alive
    return parts | {"total": sum(peak.values())}
