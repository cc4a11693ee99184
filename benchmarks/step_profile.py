"""Where the time of our ORPO step goes: seconds of each kind of operation, and the rate that matrix products reach.

python -m benchmarks.step_profile [--steps 5]

PyTorch's profiler watches steps of 8 pairs: built-in ones with all weights in float32, under bf16 autocast, and with
the notebooks' LoRA under bf16 autocast; and short pairs of one length, where TRL's step is watched too. Recorded in
docs/results/bench-cpu-profile.json.
"""

import argparse
import time

from torch.profiler import ProfilerActivity, profile

from benchmarks.bench import KINDS, LORA
from benchmarks.methods import Case
from benchmarks.results import NAMES, case_cells
from benchmarks.worker import matrix_peak, one_step, ready, tokens
from helpers.evaluation import markdown_table
from helpers.files import write_json
from helpers.runs import here_and_now, provenance, read_recorded, results_folder

RESULT = "bench-cpu-profile.json"
BF16 = {"bf16": True}
CASES = [Case("ours", **way) for way in ({}, BF16, LORA | BF16)] + [Case(name, **KINDS[1]) for name in ("ours", "trl")]
PRODUCTS = "matrix products"
# Parts of an operation's name, and what a reader calls it; the first that fits. The rest works on a value at a time
KINDS_OF_OPERATIONS = {
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
    record = here_and_now() | {"steps": steps, "cases": [watched(case, steps) for case in CASES]}
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
    parts, flops = dict.fromkeys([*KINDS_OF_OPERATIONS.values(), REST], 0.0), 0
    for event in watching.key_averages():
        kind = kind_of(event.key)
        parts[kind] += event.self_cpu_time_total / 1e6 / steps
        flops += event.flops / steps if kind == PRODUCTS else 0
    return {
        "case": vars(case),
        "tokens": tokens(batches) / len(batches),
        "seconds": seconds,
        "parts": parts,
        "flops": flops,
        "gflops": flops / parts[PRODUCTS] / 1e9,
        "matmul_gflops": peak,
    }


def kind_of(name: str) -> str:
    """What a reader calls an operation that the profiler names."""
    return next((kind for parts, kind in KINDS_OF_OPERATIONS.items() if any(part in name for part in parts)), REST)


def recorded_profile() -> dict:
    """The recorded profile; a FileNotFoundError says how to make one."""
    return read_recorded(RESULT, "profile of a step", "python -m benchmarks.step_profile")[0]


def profile_table(record: dict) -> str:
    """Markdown: a line for each case, the share of each kind of operation in what was watched."""
    kinds = [*KINDS_OF_OPERATIONS.values(), REST]
    head = ["step", "prompt + answer tokens", "pairs", "trained", "tokens", "TFLOP", "seconds a step", *kinds]
    head.append("matrix products reach")
    rows = []
    for found in record["cases"]:
        whole = sum(found["parts"].values())
        shares = [f"{found['parts'][kind] / whole:.0%}" for kind in kinds]
        same = [other for other in record["cases"] if other["case"]["bf16"] == found["case"]["bf16"]]
        peak = max(other["matmul_gflops"] for other in same)  # the machine at its quietest
        reached = f"{found['gflops']:.0f} of {peak:.0f} GFLOP/s"
        name = NAMES[found["case"]["method"]].partition(":")[0].strip("*")
        size = [f"{found['tokens']:.0f}", f"{found['flops'] / 1e12:.2f}", f"{found['seconds']:.2f}"]
        rows.append([name, *case_cells(found["case"]), *size, *shares, reached])
    notes = f"means of {record['steps']} steps, SmolLM2-135M"
    return f"{markdown_table(head, rows)}\n\n*{provenance('python -m benchmarks.step_profile', [record], notes)}*"


if __name__ == "__main__":
    main()
