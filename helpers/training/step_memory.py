"""What a training step holds in memory and computes, worked out from the sizes of a model.

One account for all places: float32 on a CPU, as `make techniques` measured it, and bf16 on a NeuronCore, which nobody
has measured here. `Numbers` says how many bytes a number of each kind takes; the rest is the same.

    weights         on each core its part
    reference       a second copy, where the method keeps one beside the policy
    optimizer       AdamW's moments (arXiv 1711.05101) and master weights, divided among the ranks of ZeRO-1
    gradients       of the weights that are trained
    activations     what the backward pass needs of every layer, for every position
    logits          all copies that are alive when the backward pass begins
"""

from dataclasses import dataclass

from helpers.training.sizes import Sizes


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
    "sft": Technique("SFT", 0, 1, copies=3),  # as TRL's trainer makes it: all logits, unlike `helpers.training.sft`
    "orpo": Technique("ORPO", 0, 2, copies=0, shared=True),
    "orpo-rows": Technique("ORPO, two rows and all logits", 0, 2, copies=3),
    "dpo": Technique("DPO, live reference", 2, 2, copies=3, reference=True),
    "dpo-precomputed": Technique("DPO, precomputed reference", 2, 2, copies=3, forward_once=True),
    "reward": Technique("reward model", 0, 2, copies=0),
}


@dataclass(frozen=True)
class Kept:
    """Bytes that a layer keeps for one position: for each number of the hidden size, of all heads, of query and key
    heads that have a norm, of the intermediate size; for each head and key, for each key, for each head. `end`: for
    each number of the hidden size, once a model. The tests count them in real models of transformers.
    """

    hidden: float
    queries: float
    head_norm: float
    intermediate: float
    score: float
    mask: float
    head: float
    end: float


@dataclass(frozen=True)
class Numbers:
    """Bytes of a number of each kind; `gradients_stay`: they are there all the time, not only after the activations."""

    weight: float
    gradient: float
    optimizer: float
    logit: float  # of all copies together
    kept: Kept
    gradients_stay: bool


# Float32 on PyTorch with SDPA and a mask. Of the hidden size: two norms 2 × 2 and the residual 2; of the heads:
# query, key and value with repeated heads 3, attention's output 1; four of the intermediate size
FLOAT32 = Numbers(4, 4, 8, 12, Kept(24, 16, 8, 16, 0, 4, 4, 12), gradients_stay=False)
# bf16 with eager attention, as Optimum Neuron 0.4.5 computes it by default: norms and softmax in float32, master
# weights and gradients in float32 (its training_args.py), logits in bf16, in float32, and their gradient
BFLOAT16 = Numbers(2, 4, 12, 10, Kept(16, 8, 6, 8, 6, 0, 0, 8), gradients_stay=True)


def activations(sizes: Sizes, count: int, keys: float, kept: Kept = FLOAT32.kept, recompute: bool = False) -> float:
    """Bytes kept for the backward pass of `count` positions that attend to `keys`.

    With recomputation a layer keeps its input, and one layer at a time everything.
    """
    norms = kept.head_norm * (sizes.queries + sizes.keys) if sizes.head_norms else 0
    vectors = kept.hidden * sizes.hidden + kept.queries * sizes.queries + kept.intermediate * sizes.intermediate + norms
    layer = vectors + (kept.score * sizes.heads + kept.mask) * keys + kept.head * sizes.heads
    number = kept.queries / 4  # of query, key, value and output: bytes of one number
    layers = layer + (sizes.layers - 1) * number * sizes.hidden if recompute else sizes.layers * layer
    return count * (min(layers, sizes.layers * layer) + kept.end * sizes.hidden)


@dataclass(frozen=True)
class Split:
    """How a step is spread: tensor-parallel cores a model, ZeRO-1 ranks an optimizer; rank of the adapter, 0 for none;
    `recompute`: activations are computed again in the backward pass. `lora` counts the adapter's weights if it is not
    beside every linear layer."""

    tensor_parallel: int = 1
    zero_ranks: int = 1
    lora_rank: int = 0
    recompute: bool = False
    lora: int = 0


WHOLE = Split()


def step_memory(
    sizes: Sizes,
    technique: Technique,
    count: int,
    keys: int,
    numbers: Numbers,
    split: Split = WHOLE,
    logits: float | None = None,
    scored: float | None = None,
) -> dict[str, float]:
    """Bytes on one core by part, for a step over `count` positions that attend to `keys`; each part by itself.

    scored: positions that get logits, all unless given; logits: their bytes, where they are made in another way.
    Sequence parallelism divides activations, a split vocabulary the logits.
    """
    ranks = split.tensor_parallel
    weights = sizes.on_a_core(ranks)
    lora = split.lora or sizes.lora_on_a_core(split.lora_rank, ranks)
    learned = lora or weights
    kept = activations(sizes, count, keys, numbers.kept, split.recompute)
    scored = count if scored is None else scored
    return {
        "weights": numbers.weight * (weights + lora),
        "reference": numbers.weight * weights if technique.reference and not lora else 0,
        "optimizer": numbers.optimizer * learned / split.zero_ranks,
        "gradients": numbers.gradient * learned,
        "activations": kept / ranks,
        "logits": numbers.logit * scored * sizes.vocabulary / ranks if logits is None else logits,
    }


def at_peak(parts: dict[str, float], numbers: Numbers, head: float = 0) -> dict[str, float]:
    """The parts as they are when they are most together.

    Where gradients do not stay, activations and logits go while gradients come: the larger of the two moments counts.
    head: bytes of the gradient of the head, which is made while the logits are alive.
    """
    if numbers.gradients_stay:
        return parts
    begins = parts["activations"] + parts["logits"] + head
    ends = parts["gradients"] + head
    if begins >= ends:
        return parts | {"gradients": head}
    return parts | {"gradients": ends, "activations": 0, "logits": 0}


def forward_flops(sizes: Sizes, positions: float, keys: float, scored: float | None = None) -> float:
    """FLOPs of one forward pass over `positions` that each attend to `keys`: 2 a weight, 4 a key and number of the
    query heads. `scored`: positions that get logits, all unless given."""
    layers = positions * sizes.layers * (2 * sizes.linear + 4 * sizes.queries * keys)
    return layers + 2 * (positions if scored is None else scored) * sizes.embedding


def trained_flops(
    sizes: Sizes,
    positions: float,
    keys: float,
    lora_rank: int = 0,
    recompute: bool = False,
    scored: float | None = None,
) -> float:
    """FLOPs of a forward and a backward pass. The backward pass takes two forward passes: one for what came in, one
    for the weights; of frozen weights the second is left out, attention has both. Recomputing takes the layers'
    forward pass once more."""
    forward = forward_flops(sizes, positions, keys, scored)
    attention = 4 * positions * sizes.layers * sizes.queries * keys
    layers = forward_flops(sizes, positions, keys, scored=0)
    again = layers if recompute else 0
    if not lora_rank:
        return 3 * forward + again
    return 2 * forward + attention + 6 * positions * sizes.lora(lora_rank) + again
