"""Pairs a second and peak memory of our ORPO step beside TRL's, Liger-Kernel's and SFT's. `make bench` runs it.

Every method loads in a process of its own; then they take turns, a step each, so that whatever else the machine does
hits all alike. Recorded in docs/results/bench-cpu.json (or bench-cuda.json), which README and figures read.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.billion import BILLION
from benchmarks.methods import Case
from benchmarks.results import NAMES, kinds_table, long_table, table
from helpers.files import REPOSITORY, write_json
from helpers.runs import here_and_now, results_folder

MAIN = ("ours", "trl", "liger", "sft")
LAYOUTS = ("ours", "ours-rows", "textbook")
SHAPES = ((32, 96), (64, 64), (96, 32), (192, 64))  # prompt and response tokens
PAIRS = (2, 4, 8, 16)
# Three kinds of pairs: the built-in domain's, short ones of one length, and short answers to a long prompt
KINDS = (
    {"pairs": 8},
    {"pairs": 8, "prompt_tokens": 45, "response_tokens": 22},
    {"pairs": 2, "prompt_tokens": 400, "response_tokens": 30, "max_length": 512},
)
LORA = {"lora_rank": 16}  # as the notebooks train
WAYS = tuple((way, MAIN[:3]) for way in ({}, {"bf16": True}, LORA, LORA | {"bf16": True}))
# --parts long, never run: by twos, so that the models fit beside each other on one GPU
GROUPS = (("ours", "liger"), ("ours", "trl"))
LENGTHS = (512, 1024, 2048)  # tokens of a prompt and one answer
LONG = "long, only if asked for: 1 billion weights in bf16, rows of 512 to 2,048 tokens, for a GPU; it was never run"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="steps of each method in the main comparison")
    parser.add_argument("--quick", action="store_true", help="the main comparison only, on the smoke model: a try-out")
    parser.add_argument("--parts", nargs="+", choices=("main", "kinds", "long"), help=f"main and kinds; {LONG}")
    options = parser.parse_args(arguments)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    parts = options.parts or (["main"] if options.quick else ["main", "kinds"])
    folder = results_folder()
    if "main" in parts:
        result = main_comparison(options.rounds, options.quick)
        print(table(result))
        if not options.quick:
            write_json(folder / f"bench-{accelerator}.json", result)
    if "kinds" in parts:
        rounds = max(2, options.rounds // 3)
        result = here_and_now() | {"rounds": rounds, "kinds": []}
        for group in kinds_of_pairs(rounds):
            result["kinds"].append(group)
            write_json(folder / f"bench-{accelerator}-kinds.json", result)  # kept if a later group fails
        print(kinds_table(result))
    if "long" in parts:
        result = here_and_now() | {"rounds": options.rounds, "long": []}
        for group in long_rows(BILLION, options.rounds):
            result["long"].append(group)
            write_json(folder / f"bench-{accelerator}-long.json", result)  # kept if a later group fails
        print(long_table(result))


def main_comparison(rounds: int, quick: bool) -> dict:
    """Methods and layouts on the built-in domain, and unless `quick` how they grow."""
    model = "smoke" if quick else "packaged"
    result = here_and_now() | {"model": model, "rounds": rounds}
    result["full"] = compare([Case(method, model=model) for method in MAIN], rounds)
    result["layouts"] = compare([Case(method, model=model) for method in LAYOUTS], rounds)
    return result if quick else result | growth(max(2, rounds // 3))


def long_rows(models, rounds: int, groups=GROUPS, lengths=LENGTHS) -> Iterator[list[dict]]:
    """Two pairs a step, weights in bf16, prompts of half the length: the records of a group at a time."""
    for model, length, group in itertools.product(models, lengths, groups):
        print(f"  {model}, {length} tokens", flush=True)
        half = length // 2
        shape = {"pairs": 2, "prompt_tokens": half, "response_tokens": half}
        shape |= {"max_length": 2 * length, "weights": "bfloat16", "batches": 1}  # nothing is cut
        yield compare([Case(method, model=model, **shape) for method in group], rounds)


def kinds_of_pairs(rounds: int, kinds=KINDS, ways=WAYS, model: str = "packaged") -> Iterator[list[dict]]:
    """Every kind of pairs in every way of training: the records of a group at a time, ours and TRL's first."""
    for kind, (way, methods) in itertools.product(kinds, ways):
        print(f"  {kind} {way}", flush=True)
        yield compare([Case(method, model=model, batches=2, **kind | way) for method in methods], rounds)


def growth(rounds: int) -> dict:
    """The laptop profile's LoRA, bf16, and how ours and TRL's grow with pairs, prompt share and length."""
    lora = [Case(method, lora_rank=16, pairs=4) for method in ("ours", "trl", "sft")]
    precision = [Case("ours", bf16=bf16) for bf16 in (False, True)]
    by_pairs = [[Case(method, pairs=pairs, batches=2) for method in ("ours", "trl")] for pairs in PAIRS]
    shape = {"pairs": 4, "max_length": 512, "batches": 1}
    by_shape = [[Case(m, prompt_tokens=p, response_tokens=r, **shape) for m in ("ours", "trl")] for p, r in SHAPES]
    measured = {"lora": compare(lora, rounds), "precision": compare(precision, rounds)}
    for name, groups in (("pairs", by_pairs), ("shapes", by_shape)):
        measured[name] = [record for cases in groups for record in compare(cases, rounds)]
    return measured


def compare(cases: list[Case], rounds: int) -> list[dict]:
    """Measure these cases by turns; one record each, with its own case, medians, and the ratios' raw seconds."""
    workers = []
    try:
        for case in cases:
            print(f"  loading {NAMES[case.method].replace('*', '')} {'bf16' if case.bf16 else ''}", flush=True)
            workers.append(Worker(case))
        for turn in range(rounds + 1):  # the first is a warm-up
            for worker in workers:
                worker.step()
            done = ", ".join(f"{worker.case.method} {worker.steps[-1]['seconds']:.2f} s" for worker in workers)
            print(f"  {'warm-up' if not turn else f'round {turn}/{rounds}'}: {done}", flush=True)
        return [worker.record() for worker in workers]
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that steps when asked."""

    def __init__(self, case: Case):
        self.case, self.steps = case, []
        command = [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(case))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes)
        self.ready = self.answer()

    def answer(self) -> dict:
        """The next JSON line; a RuntimeError if the process ended instead."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(
            f"{NAMES[self.case.method]} ended: python -m benchmarks.worker '{json.dumps(asdict(self.case))}'"
        )

    def step(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.steps.append(self.answer())

    def record(self) -> dict:
        """Seconds of every step but the warm-up, and what follows from their median."""
        seconds = [step["seconds"] for step in self.steps[1:]]
        peak = statistics.median(step["gflops"] for step in self.steps[1:])
        median = statistics.median(seconds)
        return {
            "case": asdict(self.case),
            "seconds": seconds,
            "pairs_per_second": self.case.pairs / median,
            "peak_bytes_above_model": self.steps[-1]["peak_bytes"],
            "row_tokens": self.ready["row_tokens"],
            "matmul_gflops": peak,
            "flops": self.ready["flops"],
            "utilisation": self.ready["flops"] and self.ready["flops"] / median / 1e9 / peak,
            "loss": self.steps[0]["loss"],
        }

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
