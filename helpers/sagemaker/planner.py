"""Plan a training on Trainium before it costs anything: memory of a core, what to change if it does not fit, FLOPs,
time and price. Arithmetic on a model's sizes; nothing is downloaded, and no Trainium was at hand to compare with.

    plan(model, …)      one training       compare(model, …)      SFT, DPO and ORPO with the same arguments

docs/planner.md has the formulas, what they were compared with, and how far off they were.
"""

from dataclasses import dataclass, field
from itertools import combinations, product

from helpers.evaluation.tables import markdown_table
from helpers.sagemaker.catalogue import INSTANCES
from helpers.sagemaker.plan_inputs import (
    METHODS,
    Assumption,
    assumption_table,
    assumptions_for,
    checked,
    dollars,
    minutes,
    notes_of,
    numbers_of,
    update_pairs,
)
from helpers.training.sizes import Sizes, sizes_of
from helpers.training.step_memory import TECHNIQUES, Split, at_peak, forward_flops, step_memory, trained_flops

GIB = 2**30
LORA_RANK = 16  # of the adapter that a change may propose


@dataclass(frozen=True)
class Plan:
    """What a training needs, on paper.

    arguments: those of `plan`, filled in. memory: bytes on one core by part, when they are most together. seconds: of
    setup, compile and training, and of DPO's reference before it. change: the smallest change that makes it fit, "" if
    it fits, and `changed` is the plan with it. notes: what else to know. cost: US dollars, nan where no price is known.
    """

    sizes: Sizes
    arguments: dict
    assumptions: dict[str, Assumption]
    memory: dict[str, float]
    flops: float
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    change: str = ""
    changed: "Plan | None" = field(default=None, repr=False)

    @property
    def limit(self) -> float:
        """Bytes of a core that a plan may use."""
        return self.assumptions["core_memory"].value * self.assumptions["usable_memory"].value * GIB

    @property
    def bytes(self) -> float:
        """Bytes on one core."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.bytes <= self.limit

    @property
    def cost(self) -> float:
        hours = sum(self.seconds.values()) / 3600
        return hours * self.arguments["nodes"] * self.assumptions["usd_per_hour"].value

    def table(self) -> str:
        """Markdown: the plan in a few rows."""
        said = self.arguments
        trained = f"LoRA of rank {said['lora_rank']}" if said["lora_rank"] else "all weights"
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.memory.items() if size)
        times = " + ".join(f"{name} {minutes(seconds)}" for name, seconds in self.seconds.items() if seconds)
        rows = [
            ["model", f"{self.sizes.name}, {self.sizes.parameters:,} parameters, {trained}"],
            ["where", f"{said['nodes']} × {said['instance']}, {said['tensor_parallel']} cores a copy of the model"],
            ["memory of a core", f"{self.bytes / GIB:.1f} GiB of {self.limit / GIB:.1f} usable: {parts}"],
            ["fits?", "yes" if self.fits else f"no. {self.change}"],
            ["work", f"{self.flops:.2e} FLOPs, {self.steps} updates of {self.update_pairs} pairs"],
            ["time", f"{minutes(sum(self.seconds.values()))}: {times}"],
            ["cost", dollars(self.cost) or self.assumptions["usd_per_hour"].source],
            *(["note", note] for note in self.notes),
        ]
        return markdown_table([f"{TECHNIQUES[said['method']].name}, on paper", ""], rows)

    def assumption_table(self) -> str:
        """Markdown: what the plan takes for granted, with sources."""
        return assumption_table(self.assumptions)

    @property
    def update_pairs(self) -> int:
        """Pairs of one update, over all cores."""
        return update_pairs(self.arguments)

    @property
    def steps(self) -> int:
        return self.arguments["epochs"] * (self.arguments["pairs"] // self.update_pairs)

    def __str__(self) -> str:
        return self.table()


def plan(
    model,
    method: str = "orpo",
    max_length: int = 512,
    batch: int = 1,
    accumulation: int = 1,
    tensor_parallel: int = 1,
    data_parallel: int | None = None,
    nodes: int | None = None,
    lora_rank: int = 16,
    recompute: bool = False,
    instance: str = "ml.trn1.2xlarge",
    pairs: int = 1000,
    epochs: int = 1,
    max_response_length: int | None = None,
    usd_per_hour: float | None = None,
    **assumptions,
) -> Plan:
    """What this training would need. A ValueError in one line for what can't be trained so.

    model: a name, a folder with its config.json, or a configuration (`helpers.training.sizes`). method: "sft", "orpo",
    "dpo-precomputed" (as this workshop trains DPO on Trainium) or "dpo" (with a reference model beside the policy).
    max_length: positions of every row; max_response_length: those of an answer that get logits (ORPO, DPO), all unless
    given. batch: pairs a data-parallel rank takes at once; accumulation: how often for an update. tensor_parallel:
    cores that share a copy of the model; data_parallel: copies, as many as the instances hold unless given. lora_rank:
    0 trains all weights. recompute: gradient checkpointing. assumptions: any of `Plan.assumptions` by name.
    """
    said = dict(locals())
    sizes, given = sizes_of(said.pop("model")), said.pop("assumptions")
    said = checked(sizes, said)
    found = assumptions_for(said["instance"], said.pop("usd_per_hour"), given)
    if (made := reckoned(sizes, said, found)).fits:
        return made
    change, changed = smallest_change(made, given, usd_per_hour)
    return Plan(sizes, said, found, made.memory, made.flops, made.seconds, made.notes, change, changed)


def reckoned(sizes: Sizes, said: dict, assumptions: dict) -> Plan:
    """Memory, FLOPs and seconds of arguments that are possible."""
    technique, numbers, length = TECHNIQUES[said["method"]], numbers_of(assumptions), said["max_length"]
    shards = said["data_parallel"] if assumptions["zero_1"].value else 1
    split = Split(said["tensor_parallel"], shards, said["lora_rank"], said["recompute"])
    scored = length if said["method"] == "sft" else min(said["max_response_length"] or length, length)
    answers = technique.trained * said["batch"]
    parts = step_memory(sizes, technique, answers * length, length, numbers, split, scored=answers * scored)
    head = 0 if said["lora_rank"] else numbers.gradient * sizes.embedding / said["tensor_parallel"]
    seen = said["pairs"] // update_pairs(said) * update_pairs(said)
    row = (length, length, said["lora_rank"], said["recompute"], scored)
    trained = technique.trained * seen * said["epochs"] * trained_flops(sizes, *row)
    reference = technique.forward * seen * forward_flops(sizes, length, length, scored)
    reference *= 1 if technique.forward_once else said["epochs"]
    speed = said["data_parallel"] * said["tensor_parallel"] * assumptions["core_tflops"].value * 1e12
    speed *= assumptions["utilisation"].value
    seconds = {
        "setup": assumptions["setup_seconds"].value,
        "compile": assumptions["compile_seconds_per_layer"].value * sizes.layers,
        "reference": reference / speed,
        "training": trained / speed,
    }
    parts = at_peak(parts, numbers, head)
    return Plan(sizes, said, assumptions, parts, trained + reference, seconds, notes_of(sizes, said))


def smallest_change(made: Plan, given: dict, usd_per_hour: float | None) -> tuple[str, Plan | None]:
    """(the smallest change that makes it fit, in a sentence; the plan with it).

    One change goes before two, and what costs nothing before what costs time, money or what is learned. Last come a
    split of key and value heads that this workshop's trainers refuse, and shorter rows, which cut the data.
    """
    for shorter, copied in product((False, True), (False, True)):
        axes = possible_changes(made, copied, shorter)
        for number in range(1, len(axes) + 1):
            for names in combinations(axes, number):
                for values in product(*(axes[name] for name in names)):
                    if fitting := with_changes(made, dict(zip(names, values, strict=True)), given, usd_per_hour):
                        return f"Smallest change: {difference(made, fitting)}.", fitting
    return "No change of batch, length, cores, nodes, instance or adapter makes it fit: take a smaller model.", None


def possible_changes(made: Plan, copied: bool, shorter: bool) -> dict[str, list]:
    """{argument: values to try, nearest first}, in the order in which a change is preferred."""
    said, sizes = made.arguments, made.sizes
    ranks = [each for each in (2, 4, 8, 16, 32, 64) if each > said["tensor_parallel"]]
    larger = [name for name, kind in INSTANCES.items() if kind.cores > INSTANCES[said["instance"]].cores]
    found = {
        "batch": [each for each in range(said["batch"] - 1, 0, -1) if said["batch"] % each == 0],
        "recompute": [] if said["recompute"] else [True],
        "method": ["dpo-precomputed"] if said["method"] == "dpo" else [],
        "tensor_parallel": [each for each in ranks if copied or sizes.kv_heads % each == 0],
        "nodes": [] if said["lora_rank"] else [each for each in (2, 4, 8, 16, 32, 64) if each > said["nodes"]],
        "instance": larger,
        "lora_rank": [] if said["lora_rank"] else [LORA_RANK],
        "max_length": [each for each in (2048, 1024, 512, 256) if shorter and each < said["max_length"]],
    }
    return {name: values for name, values in found.items() if values}


def with_changes(made: Plan, changes: dict, given: dict, usd_per_hour: float | None) -> Plan | None:
    """The plan with other arguments, if it is possible and fits. Accumulation keeps the pairs of an update."""
    said = made.arguments | changes | {"data_parallel": None, "accumulation": 1}
    same = said["instance"] == made.arguments["instance"]
    try:
        said = checked(made.sizes, said)
        said["accumulation"] = max(1, made.update_pairs // update_pairs(said))
        found = assumptions_for(said["instance"], usd_per_hour if same else None, given)
        changed = reckoned(made.sizes, checked(made.sizes, said), found)
    except ValueError:
        return None
    return changed if changed.fits else None


def difference(before: Plan, after: Plan) -> str:
    """What changed from one plan to another, in words."""
    old, new = before.arguments, after.arguments
    names = ("method", "batch", "accumulation", "recompute", "tensor_parallel", "nodes", "instance", "lora_rank")
    found = [f"{name} {old[name]} → {new[name]}" for name in (*names, "max_length") if old[name] != new[name]]
    kept = before.update_pairs == after.update_pairs
    return ", ".join(found) + (
        "" if kept else f" (an update has {after.update_pairs} pairs, not {before.update_pairs})"
    )


def compare(model, methods: tuple[str, ...] = METHODS, **arguments) -> dict[str, Plan]:
    """{method: its plan}, all with the same arguments."""
    return {method: plan(model, method=method, **arguments) for method in methods}


def compare_table(plans: dict[str, Plan]) -> str:
    """Markdown: the plans of `compare` side by side, beside ORPO where it is among them."""
    known = plans.get("orpo")
    stages = {TECHNIQUES[name].name: [made] for name, made in plans.items()}
    for name in ("dpo-precomputed", "dpo"):
        if {"sft", name} <= set(plans):
            stages[f"SFT, then {TECHNIQUES[name].name}"] = [plans["sft"], plans[name]]
    rows = []
    for name, made in stages.items():
        work = sum(each.flops for each in made)
        times, cost = (sum(map(of, made)) for of in (lambda each: sum(each.seconds.values()), lambda each: each.cost))
        memory = max(made, key=lambda each: each.bytes)
        against = f"{work / known.flops:.2f}" if known else ""
        fits = "yes" if all(each.fits for each in made) else "no"
        rows.append(
            [name, f"{memory.bytes / GIB:.1f}", fits, f"{work:.2e}", against, minutes(times), dollars(cost) or "?"]
        )
    return markdown_table(["on paper", "GiB a core", "fits?", "FLOPs", "ORPO's = 1", "time", "cost"], rows)
