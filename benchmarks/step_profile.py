"""Where the time of our ORPO step goes: seconds of each kind of operation, and the rate that matrix products reach.

python -m benchmarks.step_profile [--steps 5]

PyTorch's profiler watches steps on the built-in pairs, 8 a step, with all weights in float32 and with the notebooks'
LoRA under bf16 autocast. Recorded in docs/results/bench-cpu-profile.json.
"""

import argparse
import time

from torch.profiler import ProfilerActivity, profile

from benchmarks.bench import LORA
from benchmarks.methods import Case
from benchmarks.results import case_cells
from benchmarks.worker import matrix_peak, one_step, ready
from helpers.evaluation import markdown_table
from helpers.files import write_json
from helpers.runs import here_and_now, provenance, results_folder

RESULT = "bench-cpu-profile.json"
WAYS = ({}, LORA | {"bf16": True})
PRODUCTS = "matrix products"
# Parts of an operation's name, and what a reader calls it; the first that fits. The rest works on a value at a time
KINDS = {
    ("_attention",): "attention",
    ("::mm", "::addmm", "::bmm", "::baddbmm", "::mkldnn", "::_addmm"): PRODUCTS,
    ("::copy_", "::_to_copy", "::to", "::cat", "::clone", "::index", "::gather", "::embedding"): "copies and casts",
    ("::_fused_adam",): "optimizer",
}
REST = "norms, activations, sums"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps that are watched, after one that is not")
    steps = parser.parse_args(arguments).steps
    record = here_and_now() | {"steps": steps, "ways": [watched(Case("ours", **way), steps) for way in WAYS]}
    write_json(results_folder() / RESULT, record)
    print(profile_table(record))


def watched(case: Case, steps: int) -> dict:
    """Seconds of a step, and of each kind of operation in it, with the GFLOP a second of its matrix products."""
    trainer, optimizer, batches = ready(case)
    one_step(trainer, optimizer, batches[0])
    peak, started = matrix_peak(case), time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as watching:
        for number in range(steps):
            one_step(trainer, optimizer, batches[number % len(batches)])
    seconds = (time.perf_counter() - started) / steps
    parts, flops = dict.fromkeys([*KINDS.values(), REST], 0.0), 0
    for event in watching.key_averages():
        kind = kind_of(event.key)
        parts[kind] += event.self_cpu_time_total / 1e6 / steps
        flops += event.flops / steps if kind == PRODUCTS else 0
    reached = flops / parts[PRODUCTS] / 1e9
    return {"case": vars(case), "seconds": seconds, "parts": parts, "gflops": reached, "matmul_gflops": peak}


def kind_of(name: str) -> str:
    """What a reader calls an operation that the profiler names."""
    return next((kind for parts, kind in KINDS.items() if any(part in name for part in parts)), REST)


def profile_table(record: dict) -> str:
    """Markdown: a line for each way of training, the share of each kind of operation in what was watched."""
    kinds = [*KINDS.values(), REST]
    head = ["pairs", "trained", "seconds a step", *kinds, "matrix products reach"]
    rows = []
    for way in record["ways"]:
        whole = sum(way["parts"].values())
        shares = [f"{way['parts'][kind] / whole:.0%}" for kind in kinds]
        reached = f"{way['gflops']:.0f} of {way['matmul_gflops']:.0f} GFLOP/s"
        rows.append([*case_cells(way["case"])[1:], f"{way['seconds']:.2f}", *shares, reached])
    notes = f"means of {record['steps']} steps on pairs of the built-in domain, SmolLM2-135M"
    return f"{markdown_table(head, rows)}\n\n*{provenance('python -m benchmarks.step_profile', [record], notes)}*"


if __name__ == "__main__":
    main()
