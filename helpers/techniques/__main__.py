"""Record the comparison of the techniques in docs/results/. `make techniques` runs this; a stopped one goes on.

python -m helpers.techniques [--seeds 0 1 2] [--parts quality betas memory] [--profile laptop]
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from helpers.files import replace_unprintable, write_json
from helpers.runs.folder import Run, runs_folder
from helpers.runs.machine import here_and_now
from helpers.runs.recorded import results_folder
from helpers.techniques.budgets import STAGES
from helpers.techniques.comparison import BETAS, Comparison
from helpers.techniques.measure import Case, measured
from helpers.training.profiles import get_profile
from helpers.training.step_memory import TECHNIQUES

MEASURED = [Case(name, lora_rank=rank) for rank in (0, 16) for name in (*TECHNIQUES, "rlhf")]


def main() -> None:
    replace_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=("quality", "betas", "memory"), default=None)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--output", type=Path, default=results_folder())
    options = parser.parse_args()
    parts = options.parts or ["quality", "betas", "memory"]
    for seed in options.seeds if set(parts) & {"quality", "betas"} else []:
        record_seed(replace(get_profile(options.profile), seed=seed), parts, options.output)
    if "memory" in parts:
        record_memory(options.output, options.seeds)


def record_seed(profile, parts: list[str], output: Path) -> None:
    """Train what is missing for one seed and write techniques-seed<n>.json, whatever it already holds kept."""
    run = Run(runs_folder() / f"techniques-{profile.name}-seed{profile.seed}", profile)
    comparison = Comparison(run, profile)
    if "quality" in parts:
        train_all(comparison)
        comparison.record()
    if "betas" in parts:
        run.write_results(betas={f"{beta:g}": comparison.curve(beta) for beta in BETAS})
    results = run.results
    write_json(output / f"techniques-seed{profile.seed}.json", results | results.pop("techniques", {}))


def train_all(comparison: Comparison) -> None:
    """Every technique at equal pairs, then the others for as long as SFT and DPO took together."""
    for technique in STAGES:
        getattr(comparison, technique)()
    clock = comparison.seconds("dpo")
    before_rlhf = comparison.seconds("rlhf") - comparison.stage("rlhf").result["train_seconds"]
    comparison.sft(clock)
    comparison.orpo(clock)
    if clock > before_rlhf:
        comparison.rlhf(clock - before_rlhf)
    else:
        print(f"RLHF has no time for its policy: SFT and reward model took {before_rlhf:.0f} of {clock:.0f} seconds")


def record_memory(output: Path, seeds: list[int]) -> None:
    """Measure every stage here; a CUDA GPU's record stands beside the CPU's, which the notebook and README quote."""
    suffix = "-cuda" if torch.cuda.is_available() else ""
    record = here_and_now() | {"cases": []}
    runs_folder().mkdir(parents=True, exist_ok=True)
    for case in MEASURED:
        record["cases"].append(over_seeds(case, seeds))
        write_json(runs_folder() / f"techniques-memory{suffix}.json", record)  # what is measured outlives a later fault
    write_json(output / f"techniques-memory{suffix}.json", record)


def over_seeds(case: Case, seeds: list[int]) -> dict:
    """Measure a case once a seed and say what came out: the first's values, the peak of each, and their mean."""
    found = [measured(replace(case, seed=seed)) for seed in seeds]
    peaks = [one["peak_bytes"] for one in found]
    mean = sum(peaks) / len(peaks)
    estimate = f", estimate {found[0]['estimate']['total'] / 2**30:.2f}" if found[0]["estimate"] else ""
    print(f"{asdict(case)}: {mean / 2**30:.2f} GiB above the base{estimate}", flush=True)
    return found[0] | {"peaks": peaks, "peak_bytes": mean}


if __name__ == "__main__":
    main()
