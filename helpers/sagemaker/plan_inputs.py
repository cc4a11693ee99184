"""What goes into a plan: its arguments, checked and filled in, and what it takes for granted.

Every assumption has its unit and where it comes from, and each may be given anew.
"""

import math
from dataclasses import dataclass, replace

from helpers.evaluation.tables import markdown_table
from helpers.neuron.refusals import dividing
from helpers.sagemaker.catalogue import INSTANCES, PRICING_PAGE, Instance
from helpers.training.sizes import Sizes
from helpers.training.step_memory import BFLOAT16, Kept, Numbers

METHODS = ("sft", "orpo", "dpo-precomputed", "dpo")
TRAINED_HERE = ("llama", "qwen3")  # kinds of model that this workshop's trainers take on Trainium
HARDWARE = "Neuron documentation, pages on Trn1, Trainium and Trainium2, read in November 2026"
COUNTED = "autograd's own count in bf16, eager attention, Llama and Qwen3: tests/training/test_step_memory.py"
DEFAULTS = "Optimum Neuron 0.4.5, default of its training_args.py: ZeRO-1, master weights and gradients in float32"
ASSUMED = "assumed, not measured"
FITTED = "fits three of AWS's published training throughputs within 10% (docs/planner.md)"
SHARES = ("utilisation", "scaling_utilisation", "usable_memory")  # in (0, 1]
ZERO_IS_FINE = ("setup_seconds", "compile_seconds_per_layer", "hop_seconds")
MAY_BE_LEFT_OUT = ("data_parallel", "nodes", "max_response_length")
YES_OR_NO = ("gradients_stay", "zero_1")


@dataclass(frozen=True)
class Assumption:
    """A number, its unit, and its source."""

    value: float
    unit: str
    source: str


def instance_of(name: str) -> Instance:
    """The instance of the catalogue; a ValueError where it isn't there."""
    if name not in INSTANCES:
        raise ValueError(f"instance {name!r} is not in the catalogue: choose one of {', '.join(INSTANCES)}")
    return INSTANCES[name]


def assumptions_for(instance: str, usd_per_hour: float | None = None, given: dict | None = None) -> dict:
    """{name: Assumption} for an instance; `given` replaces values by name. A ValueError for one that can't be."""
    kind, given = instance_of(instance), given or {}
    numbers, kept = BFLOAT16, BFLOAT16.kept
    found = {
        "core_memory": Assumption(kind.core_gib, "GiB a core", HARDWARE),
        "usable_memory": Assumption(0.8, "share of it; the rest is for the compiler's buffers", ASSUMED),
        "core_tflops": Assumption(kind.core_tflops, "dense bf16 TFLOP/s a core", HARDWARE),
        "utilisation": Assumption(
            0.2,
            "share of the peak that a step reaches, communication inside an instance included",
            "below the 23 to 32% that three of AWS's published throughputs come to (docs/planner.md)",
        ),
        "weight_bytes": Assumption(numbers.weight, "bytes a weight", "bf16"),
        "gradient_bytes": Assumption(numbers.gradient, "bytes a trained weight", DEFAULTS),
        "optimizer_bytes": Assumption(numbers.optimizer, "bytes a trained weight: moments, master weight", DEFAULTS),
        "gradients_stay": Assumption(1, "1: gradients are alive beside activations; 0: one or the other", DEFAULTS),
        "zero_1": Assumption(1, "1: the optimizer is divided among data-parallel ranks; 0: whole on each", DEFAULTS),
        "logit_bytes": Assumption(numbers.logit, "bytes a logit: bf16, float32, its gradient", ASSUMED),
        **{f"kept_{name}": Assumption(getattr(kept, name), f"bytes {unit}", COUNTED) for name, unit in KEPT.items()},
        "setup_seconds": Assumption(240, "s: packages, model, data, upload", ASSUMED),
        "compile_seconds_per_layer": Assumption(
            75,
            "s a layer; 0 where the compile cache is warm",
            "AWS's Llama-2-7B tutorial: about 40 minutes uncached, 32 layers; smaller models may take less",
        ),
        "scaling_utilisation": Assumption(0.35, "share of the peak in `scale`, communication by itself", FITTED),
        "link_gbytes": Assumption(kind.link_gbytes, "GB/s a core over NeuronLink", HARDWARE),
        "network_gbit": Assumption(kind.network_gbit, "Gbit/s an instance", HARDWARE),
        "hop_seconds": Assumption(1e-5, "s a step of a ring", FITTED),
        "input_positions": Assumption(1e6, "positions/s that an instance reads and collates", ASSUMED),
    }
    for name, value in given.items():
        found[name] = replaced(found, name, value)
    return found | {"usd_per_hour": price_of(instance, kind, usd_per_hour)}


KEPT = {
    "hidden": "a position, layer and number of the hidden size",
    "queries": "a position, layer and number of the query heads",
    "head_norm": "a position, layer and number of the heads that have a norm",
    "intermediate": "a position, layer and number of the intermediate size",
    "score": "a position, layer, head and key; 0 with the flash kernel",
    "mask": "a position, layer and key",
    "head": "a position, layer and head",
    "end": "a position and number of the hidden size, outside the layers",
}


def replaced(found: dict, name: str, value) -> Assumption:
    """The assumption with another value, which must be one that can be reckoned with."""
    if name not in found:
        raise ValueError(f"{name}= is no argument and no assumption of plan(): choose one of {', '.join(found)}")
    if (isinstance(value, bool) and name not in YES_OR_NO) or not isinstance(value, int | float) or not value < 1e30:
        raise ValueError(f"{name} is {value!r}: give a number ({found[name].unit})")
    zero = name in ZERO_IS_FINE or name in YES_OR_NO or name.startswith("kept_") or name == "logit_bytes"
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} is {value}: give a number above 0 ({found[name].unit})")
    if name in (*SHARES, *YES_OR_NO) and value > 1:
        raise ValueError(f"{name} is {value}: give a share of at most 1 ({found[name].unit})")
    return replace(found[name], value=value, source="given by you")


def price_of(instance: str, kind: Instance, usd_per_hour: float | None) -> Assumption:
    """The price of an hour of one instance, nan where neither the catalogue nor the user has it."""
    unit = "US dollars an hour and instance, on demand"
    if usd_per_hour is not None:
        if not usd_per_hour > 0:
            raise ValueError(f"usd_per_hour is {usd_per_hour}: give the price of an hour of {instance}, above 0")
        return Assumption(usd_per_hour, unit, "given by you")
    if kind.usd_per_hour is None:
        return Assumption(float("nan"), unit, f"no official figure found: read {PRICING_PAGE}, give usd_per_hour=")
    return Assumption(kind.usd_per_hour, unit, kind.source)


def numbers_of(assumptions: dict) -> Numbers:
    """The bytes of a number of each kind."""
    value = {name: each.value for name, each in assumptions.items()}
    kept = Kept(**{name: value[f"kept_{name}"] for name in KEPT})
    sizes = (value["weight_bytes"], value["gradient_bytes"], value["optimizer_bytes"], value["logit_bytes"])
    return Numbers(*sizes, kept, gradients_stay=bool(value["gradients_stay"]))


def assumption_table(assumptions: dict) -> str:
    """Markdown: every assumption with its value, unit and source."""
    rows = [[f"`{name}`", f"{each.value:g}", each.unit, each.source] for name, each in assumptions.items()]
    return markdown_table(["assumption", "value", "unit", "source"], rows)


def checked(sizes: Sizes, said: dict) -> dict:
    """The arguments filled in; a ValueError for the first that is not possible."""
    if said["method"] not in METHODS:
        raise ValueError(f"method {said['method']!r}: choose one of {', '.join(METHODS)}")
    counts = ("max_length", "batch", "accumulation", "tensor_parallel", "pairs", "epochs", "lora_rank")
    for name in (*counts, *(name for name in MAY_BE_LEFT_OUT if said[name] is not None)):
        least = 0 if name == "lora_rank" else 1
        if isinstance(said[name], bool) or not isinstance(said[name], int) or said[name] < least:
            raise ValueError(f"{name} is {said[name]!r}: give a whole number, {least} or more")
    if not isinstance(said["recompute"], bool):
        raise ValueError(f"recompute is {said['recompute']!r}: give True or False")
    said |= spread(said, instance_of(said["instance"]).cores)
    refuse_split(sizes, said["tensor_parallel"], said["max_length"])
    if said["pairs"] < update_pairs(said):
        raise ValueError(
            f"pairs is {said['pairs']}, and one update takes {update_pairs(said)} (batch × accumulation × "
            "data_parallel): lower batch or accumulation, or give more pairs"
        )
    return said


def spread(said: dict, cores: int) -> dict:
    """Nodes and data-parallel copies, which fill the cores of the instances."""
    ranks, copies, nodes = said["tensor_parallel"], said["data_parallel"], said["nodes"]
    if cores % ranks:
        fitting = [str(each) for each in range(1, cores + 1) if cores % each == 0]
        raise ValueError(
            f"tensor_parallel {ranks} does not divide the {cores} cores of {said['instance']}: choose one of "
            f"{', '.join(fitting)}"
        )
    whole = cores // ranks
    if copies is None:
        return {"nodes": nodes or 1, "data_parallel": (nodes or 1) * whole}
    if copies % whole or (nodes and copies != nodes * whole):
        raise ValueError(
            f"data_parallel {copies} × tensor_parallel {ranks} does not fill {nodes or 'whole'} instances of {cores} "
            f"cores: choose {(nodes or math.ceil(copies / whole)) * whole}, or leave it out"
        )
    return {"nodes": copies // whole, "data_parallel": copies}


def refuse_split(sizes: Sizes, ranks: int, length: int) -> None:
    """What tensor parallelism must split evenly. Key and value heads may be copied: see the notes of a plan."""
    whole = {"heads": sizes.heads, "intermediate size": sizes.intermediate, "vocabulary": sizes.vocabulary}
    for name, size in whole.items():
        if size % ranks:
            raise ValueError(
                f"tensor_parallel {ranks} does not divide the {name}, {size}, of {sizes.name or 'the model'}: "
                f"choose one of {dividing(whole.values())}"
            )
    if length % ranks:
        raise ValueError(
            f"max_length {length} is not divisible by tensor_parallel {ranks}, as sequence parallelism needs it: "
            f"choose {length + ranks - length % ranks}"
        )


def update_pairs(said: dict) -> int:
    """Pairs of one update."""
    return said["batch"] * said["accumulation"] * said["data_parallel"]


def notes_of(sizes: Sizes, said: dict) -> tuple[str, ...]:
    """What the arithmetic allows and the trainers of this workshop do not."""
    notes, ranks = [], said["tensor_parallel"]
    if sizes.kv_heads % ranks:
        notes.append(
            f"{sizes.kv_heads} key and value heads do not divide by tensor_parallel {ranks}: on paper they are "
            f"copied, but this workshop's trainers refuse it; they take {dividing([sizes.kv_heads], sizes.kv_heads)}"
        )
    if sizes.kind not in TRAINED_HERE:
        notes.append(f"on Trainium this workshop trains Llama and Qwen3, not {sizes.kind}")
    if said["method"] == "dpo":
        notes.append("on Trainium this workshop computes the reference beforehand: that is dpo-precomputed")
    return tuple(notes)


def minutes(seconds: float) -> str:
    """A time that is only an estimate: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def dollars(cost: float) -> str:
    """A price, "" where it isn't known."""
    return "" if math.isnan(cost) else f"${cost:,.2f}"
