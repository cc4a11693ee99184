"""Where to train, on paper: on which instance, and on how many of them until more nodes stop paying.

In `scale` the update stays the same: the same pairs, shared by more cores. Collectives go round a ring (each of n
ranks sends (n − 1) / n of the data, twice for an all-reduce): those of tensor parallelism over NeuronLink, four a layer
and micro-batch, six with recomputation; those of ZeRO-1 once an update over NeuronLink and the network, gradients one
way and weights the other. Nothing is overlapped, so real jobs may do better; stragglers and lost nodes are not in it.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from helpers.evaluation.tables import markdown_table
from helpers.sagemaker.catalogue import INSTANCES
from helpers.sagemaker.plan_inputs import dollars, instance_of, minutes
from helpers.sagemaker.planner import Plan, plan
from helpers.training.sizes import sizes_of
from helpers.training.step_memory import TECHNIQUES

NODES = (1, 2, 4, 8, 16, 32, 64)
BFLOAT16_BYTES = 2


@dataclass(frozen=True)
class Nodes:
    """A training on so many nodes: its plan, and seconds by what they are spent on."""

    nodes: int
    plan: Plan
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def node_hours(self) -> float:
        return self.nodes * self.total / 3600

    @property
    def cost(self) -> float:
        """US dollars, nan where no price is known."""
        return self.node_hours * self.plan.assumptions["usd_per_hour"].value


@dataclass(frozen=True)
class Scaling:
    """The same training on more and more nodes. worth: share of the time that doubling the nodes must save to pay."""

    rows: tuple[Nodes, ...]
    worth: float

    @property
    def best(self) -> Nodes | None:
        """The last on the way up whose nodes pay; None where it fits on none."""
        fitting = [row for row in self.rows if row.plan.fits]
        for row, more in pairwise(fitting):
            if more.total > row.total * (1 - self.worth) ** math.log2(more.nodes / row.nodes):
                return row
        return fitting[-1] if fitting else None

    def table(self) -> str:
        """Markdown: a row for each number of nodes."""
        parts = list(self.rows[0].seconds)
        rows = []
        for row in self.rows:
            mark = " ←" if row is self.best else ""
            memory = f"{row.plan.bytes / 2**30:.1f} GiB, {'fits' if row.plan.fits else 'does not fit'}"
            times = [minutes(row.seconds[part]) for part in parts]
            cost = dollars(row.cost) or "unknown"
            rows.append([f"{row.nodes}{mark}", memory, *times, minutes(row.total), f"{row.node_hours:.1f}", cost])
        head = ["nodes", "a core", *parts, "in all", "instance-hours", "cost"]
        return markdown_table(head, rows) + "\n\n" + self.verdict()

    def verdict(self) -> str:
        """Where adding nodes stops paying, in a sentence."""
        best = self.best
        if best is None:
            tried = ", ".join(str(row.nodes) for row in self.rows)
            return f"It fits on none of {tried} nodes. {self.rows[-1].plan.change}"
        more = [row for row in self.rows if row.nodes > best.nodes]
        if not more:
            return f"Up to {best.nodes} nodes, doubling them saves at least {self.worth:.0%} of the time."
        saved = 1 - more[0].total / best.total
        return (
            f"Adding nodes stops paying at {best.nodes}: {more[0].nodes} save {saved:.0%} of the time for "
            f"{more[0].node_hours / best.node_hours - 1:.0%} more instance-hours."
        )


def scale(model, nodes: tuple[int, ...] = NODES, update_pairs: int = 1024, worth: float = 0.25, **arguments) -> Scaling:
    """The same training on each number of nodes, as far as an update of `update_pairs` pairs can be shared out.

    worth: in (0, 1), the share of the time that doubling must save. arguments: those of `plan` but for nodes,
    data_parallel and accumulation, which follow; the instance is an ml.trn1.32xlarge unless given.
    """
    if not 0 < worth < 1:
        raise ValueError(f"worth is {worth}: give the share of the time that doubling the nodes must save, as 0.25")
    if fixed := [name for name in ("data_parallel", "accumulation", "nodes") if name in arguments]:
        raise ValueError(f"{fixed[0]} follows from nodes and update_pairs: leave it out")
    counts = {name: arguments.get(name, 1) for name in ("tensor_parallel", "batch")} | {"update_pairs": update_pairs}
    for name, value in [*counts.items(), *(("nodes", each) for each in nodes)]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}: give a whole number, 1 or more")
    arguments = {"instance": "ml.trn1.32xlarge", "pairs": 16 * update_pairs} | arguments
    found = [rows_of(sizes_of(model), each, update_pairs, arguments) for each in sorted(set(nodes))]
    if rows := tuple(row for row in found if row):
        return Scaling(rows, worth)
    raise ValueError(f"update_pairs {update_pairs} can't be shared evenly on any of {nodes} nodes: give another number")


def compare_instances(model, usd_per_hour: dict[str, float] | None = None, **arguments) -> dict[str, Plan]:
    """{instance: the plan on one of them}. usd_per_hour: prices by instance, beside those of the catalogue."""
    prices = usd_per_hour or {}
    if unknown := [name for name in prices if name not in INSTANCES]:
        raise ValueError(f"usd_per_hour has {unknown[0]!r}, no instance of the catalogue: {', '.join(INSTANCES)}")
    return {name: plan(model, instance=name, usd_per_hour=prices.get(name), **arguments) for name in INSTANCES}


def instances_table(plans: dict[str, Plan]) -> str:
    """Markdown: the plans of `compare_instances` side by side."""
    rows = []
    for name, made in plans.items():
        memory = [f"{made.bytes / 2**30:.1f} of {made.limit / 2**30:.1f}", "yes" if made.fits else "no"]
        time = sum(made.seconds.values())
        cost = dollars(made.cost) or "unknown: give usd_per_hour="
        rows.append([name, *memory, f"{made.update_pairs}", minutes(made.seconds["training"]), minutes(time), cost])
    head = ["one of", "GiB a core, usable", "fits?", "pairs an update", "training", "in all", "cost"]
    return markdown_table(head, rows)


def rows_of(sizes, nodes: int, update_pairs: int, arguments: dict) -> Nodes | None:
    """The training on `nodes` nodes; None where the update has too few pairs, or not a whole number for each core."""
    copies = nodes * instance_of(arguments["instance"]).cores // arguments.get("tensor_parallel", 1)
    accumulation, rest = divmod(update_pairs, max(1, copies) * arguments.get("batch", 1))
    if rest or not accumulation:
        return None
    made = plan(sizes, nodes=nodes, accumulation=accumulation, **arguments)
    return Nodes(nodes, made, seconds_of(made))


def seconds_of(made: Plan) -> dict[str, float]:
    """What a training on many nodes takes: setup, compile, compute, both kinds of collectives, input."""
    said, value = made.arguments, {name: each.value for name, each in made.assumptions.items()}
    cores = said["tensor_parallel"] * said["data_parallel"]
    return {
        "setup": value["setup_seconds"],
        "compile": made.seconds["compile"],
        "compute": made.flops / (cores * value["core_tflops"] * 1e12 * value["scaling_utilisation"]),
        "tensor parallel": tensor_seconds(made, value),
        "data parallel": made.steps * data_seconds(made, value),
        "input": positions(made) / said["nodes"] / value["input_positions"],
    }


def positions(made: Plan) -> float:
    """Positions that are trained on, padding included."""
    technique = TECHNIQUES[made.arguments["method"]]
    return made.steps * made.update_pairs * technique.trained * made.arguments["max_length"]


def tensor_seconds(made: Plan, value: dict) -> float:
    """The collectives inside the layers: of what each data-parallel rank passes through them."""
    said, ranks = made.arguments, made.arguments["tensor_parallel"]
    technique = TECHNIQUES[said["method"]]
    passes = 6 if said["recompute"] else 4
    again = 2 * technique.forward / technique.trained / (said["epochs"] if technique.forward_once else 1)
    through = positions(made) / said["data_parallel"] * made.sizes.hidden * BFLOAT16_BYTES
    micro_batches = made.steps * said["accumulation"]
    collectives = made.sizes.layers * (passes + again)
    sent = 2 * (ranks - 1) / ranks * through * collectives / (value["link_gbytes"] * 1e9)
    return sent + micro_batches * collectives * 2 * (ranks - 1) * value["hop_seconds"]


def data_seconds(made: Plan, value: dict) -> float:
    """ZeRO-1 for one update: gradients are summed and shared out, the new weights gathered."""
    said, sizes = made.arguments, made.sizes
    inside = said["data_parallel"] // said["nodes"]
    learned = sizes.lora(said["lora_rank"]) if said["lora_rank"] else sizes.parameters
    size = learned * (value["gradient_bytes"] + value["weight_bytes"])
    on_links = (inside - 1) / inside * size / said["tensor_parallel"] / (value["link_gbytes"] * 1e9)
    on_network = (said["nodes"] - 1) / said["nodes"] * size / (value["network_gbit"] / 8 * 1e9)
    return on_links + on_network + 2 * (said["data_parallel"] - 1) * value["hop_seconds"]
