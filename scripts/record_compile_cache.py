"""Rehearse a cold and a warm start, and what adds a graph; write docs/results/compile_cache.json.

python -m scripts.record_compile_cache          (takes the environment of `make rehearse`)
"""

import shutil
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from helpers.files import write_json
from helpers.neuron.compile_cache.rehearsal import RECORDED_STARTS, SHORT, cold_and_warm, rehearsed
from helpers.neuron.compile_cache.settings import configure
from helpers.runs.machine import machine_info

CHANGES = (  # one setting at a time, against SHORT
    {"seed": 7},
    {"max_steps": 5},
    {"learning_rate": 1e-3},
    {"beta": 0.5},
    {"beta": 1.0},
    {"weight_decay": 0.01},
    {"max_grad_norm": 0.5},
    {"warmup_steps": 2},
    {"max_length": 96},
    {"per_device_train_batch_size": 4},
    {"gradient_accumulation_steps": 2},
    {"zero_1": False},
    {"lora_rank": 4},
    {"bf16": True},
)


def new_graphs(folder: Path, cold: Path) -> list[dict]:
    """For each of CHANGES how many graphs it adds to those in the cache `cold`."""
    counted = []
    for change in CHANGES:
        shutil.rmtree(folder / "changed", ignore_errors=True)
        shutil.copytree(cold, folder / "changed")
        configure(folder / "changed")
        run = rehearsed(None, f"{folder}/changed-run", **change)
        counted.append({"change": change, "graphs": run.graphs, "new": run.new_graphs})
        print(counted[-1])
    return counted


def main() -> None:
    """Rehearse and record."""
    with tempfile.TemporaryDirectory(prefix="compile-cache-") as name:
        folder = Path(name)
        starts = cold_and_warm(folder, str(folder / "shared"), rehearsed)
        print(*starts.values(), sep="\n")
        changes = new_graphs(folder, folder / "cold")
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine_info(), "settings": SHORT}
    record |= {"starts": {name: asdict(start) for name, start in starts.items()}, "changes": changes}
    RECORDED_STARTS.parent.mkdir(parents=True, exist_ok=True)
    write_json(RECORDED_STARTS, record)


if __name__ == "__main__":
    main()
