"""Start scripts/train.py on the Trainium of this machine, or as a rehearsal on XLA's CPU device, and read what it says.

`python -m helpers.neuron.run` rehearses and records the outcome in docs/results/rehearsal.json.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from helpers.cache import REPOSITORY
from helpers.runs import clock, machine_info, write_json

REHEARSAL_PYTHON = REPOSITORY / ".venv-rehearsal" / "bin" / "python"
RECORDED = REPOSITORY / "docs" / "results" / "rehearsal.json"


@dataclass
class TrainingRun:
    """What a run of scripts/train.py said: its log records, how many graphs XLA compiled, seconds, and where."""

    method: str
    records: list[dict]
    graphs: int | None
    seconds: float
    where: str

    def __str__(self) -> str:
        first, last = self.records[0]["loss"], self.records[-1]["loss"]
        graphs = f", {self.graphs} graphs compiled" if self.graphs is not None else ""
        return (
            f"{self.where}: {self.method}, {len(self.records)} steps in {clock(self.seconds)}{graphs}, "
            f"loss {first:.3f} → {last:.3f}"
        )


def train_command(method: str, **settings) -> list[str]:
    """The arguments after the Python interpreter: `scripts/train.py --method orpo --max_steps 12 …`."""
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return ["scripts/train.py", "--method", method, *options]


def can_rehearse() -> bool:
    """True once `make rehearse` has installed the rehearsal's environment."""
    return REHEARSAL_PYTHON.is_file() and any(REHEARSAL_PYTHON.parents[1].glob(".ready-*"))


def rehearse(method: str, **settings) -> TrainingRun:
    """Train a two-layer model through the real Optimum Neuron on XLA's CPU device; a RuntimeError shows what failed."""
    command = [str(REHEARSAL_PYTHON), "-m", "tests.rehearsal.launch", *train_command(method, model="smoke", **settings)]
    return follow(command, method, "rehearsal on XLA's CPU device")


def train_on_trainium(method: str, cores: int = 2, **settings) -> TrainingRun:
    """Train on this machine's NeuronCores, one process a core."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={cores}"]
    return follow([*launcher, *train_command(method, **settings)], method, f"{cores} NeuronCores")


def follow(command: list[str], method: str, where: str) -> TrainingRun:
    """Run a command from the repository's root, with a line of progress, and read its JSON lines."""
    records, tail, graphs, started = [], [], None, time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        tail = [*tail, line.rstrip()][-15:]
        if line.startswith("{"):
            records.append(json.loads(line))
            progress = f"{method}: step {records[-1]['step']}, loss {records[-1]['loss']:.3f}"
            print(f"\r{progress}, {clock(time.monotonic() - started)}", end="", flush=True)
        elif found := re.search(r"XLA compiled (\d+) graphs", line):
            graphs = int(found[1])
    print()
    if process.wait():
        raise RuntimeError(f"train.py ended with {process.returncode}:\n" + "\n".join(tail))
    return TrainingRun(method, records, graphs, time.monotonic() - started, where)


def recorded_rehearsal() -> dict[str, TrainingRun]:
    """The rehearsal in docs/results/, for machines without its environment; `where` tells machine and date."""
    stored = json.loads(RECORDED.read_text(encoding="utf-8"))
    where = f"recorded rehearsal ({stored['machine']['cpu']}, {stored['date'][:10]})"
    return {method: TrainingRun(**run | {"where": where}) for method, run in stored["runs"].items()}


REHEARSED = {"max_steps": 12, "max_length": 128, "per_device_train_batch_size": 4, "pairs": 48, "learning_rate": 3e-3}


def rehearse_both(output: str, **settings) -> dict[str, TrainingRun]:
    """SFT through NeuronSFTTrainer and ORPO through NeuronORPOTrainer, at the same settings."""
    settings = REHEARSED | {"bf16": False} | settings
    return {method: rehearse(method, output_dir=f"{output}/{method}", **settings) for method in ("sft", "orpo")}


def main() -> None:
    """Rehearse both methods and record what came out."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        runs = rehearse_both(folder)
    for run in runs.values():
        print(run)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"date": date, "machine": machine_info(), "settings": REHEARSED}
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    write_json(RECORDED, record | {"runs": {method: asdict(run) for method, run in runs.items()}})


if __name__ == "__main__":
    main()
