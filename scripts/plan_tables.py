"""What the planner was compared with, and its examples: the tables of docs/planner.md. `make figures` writes them."""

from dataclasses import dataclass

from helpers.evaluation.tables import markdown_table
from helpers.sagemaker import Plan, Scaling, compare, compare_instances, compare_table, instances_table, plan, scale
from helpers.techniques import memory_provenance, recorded_memory
from helpers.techniques.results import memory_cases
from helpers.training.step_memory import FLOAT32, TECHNIQUES

GIB = 2**30
PACKAGED = "HuggingFaceTB/SmolLM2-135M-Instruct"
# The machine of `make techniques`: one process, float32, SDPA with a mask
ON_A_CPU = {"weight_bytes": 4, "gradient_bytes": 4, "optimizer_bytes": 8, "logit_bytes": 12}
ON_A_CPU |= {"gradients_stay": 0, "zero_1": 0, **{f"kept_{name}": size for name, size in vars(FLOAT32.kept).items()}}
# A pair in two rows with all logits is what a plan reckons with; ORPO's own layout is in docs/results.md
MEASURED_AS = {"sft": "sft", "orpo": "orpo-rows", "dpo-precomputed": "dpo-precomputed", "dpo": "dpo"}
BILLED = 1425  # seconds, of the AWS workshop of 2025 on this subject


@dataclass(frozen=True)
class Throughput:
    """A training throughput that AWS published: aws-neuron-sdk, benchmark tables for Trn1, read in November 2026."""

    model: str
    nodes: int
    tensor_parallel: int
    length: int
    sequences: float  # a second
    note: str = ""


THROUGHPUTS = (
    Throughput("Llama-2-7b-hf", 16, 8, 4096, 81.0),
    Throughput("Llama-3.1-8B", 32, 32, 8192, 47.95),
    Throughput("Llama-3.1-70B", 32, 32, 8192, 7.94, "AWS's has a pipeline of 8 stages; reckoned without one"),
)


def on_a_cpu(case: dict) -> Plan:
    """The plan of a case that `make techniques` measured."""
    said, step = case["case"], case["step"]
    method = next(name for name, measured in MEASURED_AS.items() if measured == said["technique"])
    length = step["prompt"] + step["response"]
    sizes = {"max_length": length, "batch": step["pairs"], "lora_rank": said["lora_rank"]}
    return plan(PACKAGED, method, **sizes, **ON_A_CPU)


def memory_pairs() -> list[tuple[dict, float]]:
    """[(measured case, bytes above the loaded base as planned), …] of all techniques that a plan knows."""
    recorded = recorded_memory()
    cases = [case for lora in (False, True) for case in memory_cases(recorded, lora).values()]
    found = [case for case in cases if case["case"]["technique"] in MEASURED_AS.values()]
    made = [on_a_cpu(case) for case in found]
    return [(case, each.bytes - each.memory["weights"]) for case, each in zip(found, made, strict=True)]


def memory_calibration() -> str:
    """Markdown: what `make techniques` measured on a CPU beside the plan with a CPU's assumptions."""
    rows = []
    for case, planned in memory_pairs():
        trained = f"LoRA {case['case']['lora_rank']}" if case["case"]["lora_rank"] else "all weights"
        name, peak = TECHNIQUES[case["case"]["technique"]].name, case["peak_bytes"]
        rows.append([name, trained, f"{peak / GIB:.2f}", f"{planned / GIB:.2f}", f"{planned / peak - 1:+.0%}"])
    table = markdown_table(["technique", "trained", "measured, GiB", "planned, GiB", "off by"], rows)
    return f"{table}\n\n*{memory_provenance(recorded_memory())}.*"


def planned_throughput(published: Throughput) -> float:
    """Sequences a second as `scale` has them, without setup and compile; updates of 1,024 sequences."""
    arguments = {"method": "sft", "tensor_parallel": published.tensor_parallel, "max_length": published.length}
    (row,) = scale(published.model, (published.nodes,), update_pairs=1024, lora_rank=0, **arguments).rows
    seconds = row.total - row.seconds["setup"] - row.seconds["compile"]
    return row.plan.steps * row.plan.update_pairs / seconds


def throughput_calibration() -> str:
    """Markdown: AWS's published throughputs beside those of `scale`."""
    rows = []
    for each in THROUGHPUTS:
        planned = planned_throughput(each)
        where = f"{each.nodes} × trn1.32xlarge, tensor parallel {each.tensor_parallel}, length {each.length:,}"
        said = [f"{each.sequences:.2f}", f"{planned:.2f}", f"{planned / each.sequences - 1:+.0%}", each.note]
        rows.append([each.model, where, *said])
    return markdown_table(["model", "where", "published, sequences/s", "on paper", "off by", ""], rows)


def first_workshop(**changes) -> Plan:
    """The training of the AWS workshop of 2025: Llama-3.2-1B, LoRA, ORPO, 3 × 1,024 pairs of 512 tokens."""
    return plan("Llama-3.2-1B", "orpo", **{"max_length": 512, "pairs": 1024, "epochs": 3} | changes)


def first_workshop_table() -> str:
    """Markdown: its 1,425 billable seconds beside the plan, with and without a warm compile cache."""
    rows = []
    for label, changes in (("compiled from nothing", {}), ("compile cache warm", {"compile_seconds_per_layer": 0})):
        made = first_workshop(**changes)
        parts = [f"{made.seconds[name]:,.0f}" for name in ("setup", "compile", "training")]
        total = sum(made.seconds.values())
        rows.append([label, *parts, f"{total:,.0f}", f"{total / BILLED:.2f}", f"${made.cost:.2f}"])
    return markdown_table(
        ["on paper", "setup, s", "compile, s", "training, s", "in all, s", "billed = 1", "cost"], rows
    )


def methods_text() -> str:
    """Markdown: SFT, ORPO and DPO side by side, with an adapter and with all weights."""
    arguments = {"max_length": 512, "pairs": 1024, "epochs": 3, "tensor_parallel": 2}
    parts = []
    for label, rank in (("LoRA of rank 16", 16), ("all weights", 0)):
        plans = compare("Llama-3.2-1B", lora_rank=rank, **arguments)
        parts.append(f"Llama-3.2-1B, {label}, 3 × 1,024 pairs of length 512, one ml.trn1.2xlarge:\n")
        parts.append(compare_table(plans) + "\n")
    return "\n".join(parts).rstrip()


def example_plans() -> dict[str, Plan]:
    """Four plans for the figure of memory."""
    arguments = {"tensor_parallel": 2, "batch": 2}
    full = compare("Qwen3-1.7B", ("sft", "orpo", "dpo"), lora_rank=0, **arguments)
    names = {"sft": "SFT", "orpo": "ORPO", "dpo": "DPO, live reference"}
    return {f"{names[name]}, all weights": made for name, made in full.items()} | {
        "ORPO, LoRA": plan("Qwen3-1.7B", **arguments)
    }


def example_scaling() -> Scaling:
    """ORPO with LoRA on a model of 70B parameters, up to 64 nodes."""
    arguments = {"tensor_parallel": 32, "recompute": True, "max_length": 2048, "pairs": 65_536}
    return scale("Llama-3.1-70B", update_pairs=256, **arguments)


def tables() -> dict[str, str]:
    """{marker of docs/planner.md: the table there}."""
    return {
        "methods": methods_text(),
        "instances": instances_table(compare_instances("Qwen3-1.7B", pairs=20_000, tensor_parallel=2, batch=2)),
        "nodes": example_scaling().table(),
        "memory": memory_calibration(),
        "first-workshop": first_workshop_table(),
        "throughputs": throughput_calibration(),
        "assumptions": plan("Llama-3.2-1B").assumption_table(),
    }
