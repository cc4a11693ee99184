"""What a technique needs, worked out by hand: passes, models, memory. `measure` puts a number beside each.

The memory of a step, for a model whose weights take W bytes, trained in full with AdamW (arXiv 1711.05101):

    other models    W for a reference that runs beside the policy, and for a reward model
    optimizer       2 W: two moments a weight
    activations     what the backward pass needs of every layer, for every position of every row
    logits          how many copies of (positions × vocabulary) are alive when the backward pass begins
    gradients       W when it ends, by when activations and logits are gone: the larger of the two moments counts

Under LoRA optimizer and gradients are those of the adapter, and the reference is the policy without it.
"""

import math
from dataclasses import dataclass

from helpers.data.collate import PreferenceCollator
from helpers.objective.chunked_logprobs import LOGIT_ROWS

BYTES = 4  # float32


@dataclass(frozen=True)
class Technique:
    """A stage of a technique: passes over the answers of a pair, and the models in memory beside the policy."""

    name: str
    forward: int  # passes without a gradient, in answers
    trained: int  # forward and backward passes, in answers
    copies: float  # of the logits, at the start of the backward pass
    reference: bool = False
    shared: bool = False  # chosen and rejected in one row, logits in blocks
    forward_once: bool = False  # the passes without a gradient are done once, before training


TECHNIQUES = {
    "sft": Technique("SFT", 0, 1, copies=3),
    "orpo": Technique("ORPO", 0, 2, copies=0, shared=True),
    "orpo-rows": Technique("ORPO, two rows and all logits", 0, 2, copies=3),
    "dpo": Technique("DPO, live reference", 2, 2, copies=3, reference=True),
    "dpo-precomputed": Technique("DPO, precomputed reference", 2, 2, copies=3, forward_once=True),
    "reward": Technique("reward model", 0, 2, copies=0),
}
RLHF = (
    "RLHF's last stage works on sampled answers: for each its generation token by token, then without gradient the "
    "policy's log-prob, the reference's and the reward model's word, then one pass that trains"
)


def name_of(stage: str) -> str:
    """What a measured stage is called; RLHF's last stage has passes of its own kind."""
    return TECHNIQUES[stage].name if stage in TECHNIQUES else "RLHF, policy optimisation"


@dataclass(frozen=True)
class Sizes:
    """What of a model's configuration decides its memory."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    parameters: int

    @classmethod
    def of(cls, model) -> "Sizes":
        """The sizes of a loaded model of the Llama architecture."""
        config = model.config
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        return cls(*(getattr(config, name) for name in names), sum(p.numel() for p in model.parameters()))


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
    weights = BYTES * sizes.parameters
    learned = BYTES * step.lora or weights
    head = BYTES * sizes.vocabulary * sizes.hidden
    count, keys = positions(technique, step)
    parts = {
        "reference": weights if technique.reference and not step.lora else 0,
        "optimizer": 2 * learned,
        "activations": activations(sizes, count, keys),
        "logits": BYTES * technique.copies * count * sizes.vocabulary,
        "gradients": learned,
    }
    if technique.shared:  # blocks of logits; where the head learns one is kept, and its gradient is summed from parts
        parts["logits"] = BYTES * LOGIT_ROWS * sizes.vocabulary * (1 if step.lora else 2) + (0 if step.lora else head)
    parts["logits"] += 0 if step.lora else head  # the head's gradient, made while they are alive
    begins = parts["activations"] + parts["logits"]
    parts["total"] = parts["reference"] + parts["optimizer"] + max(begins, parts["gradients"] + head)
    return parts


def activations(sizes: Sizes, count: int, keys: int) -> float:
    """Bytes that transformers' Llama with SDPA and a mask keeps for the backward pass of `count` positions.

    A layer keeps, for each position, ten vectors of the hidden size (two norms: 2 × 2 and the residual 2, query, key
    and value with repeated heads 3, attention's output 1), four of the intermediate size, a row of the mask, and a
    number a head. The tests count them in a real model.
    """
    vectors = 10 * sizes.hidden + 4 * sizes.intermediate + keys + sizes.heads
    return BYTES * count * (sizes.layers * vectors + 3 * sizes.hidden)
