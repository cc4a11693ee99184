"""Start scripts/train.py on the Trainium of this machine, or as a rehearsal on XLA's CPU device, and read what it says.

`python -m helpers.neuron.run` rehearses and records the outcome in docs/results/rehearsal.json.
"""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from helpers.files import REPOSITORY, replace_unprintable, write_json
from helpers.neuron.process import lines_of
from helpers.runs.machine import clock, machine_info

REHEARSAL_PYTHON = REPOSITORY / ".venv-rehearsal" / "bin" / "python"
Listener = Callable[[str], None]
RECORDED = REPOSITORY / "docs" / "results" / "rehearsal.json"
NUM_CORES, VISIBLE_CORES = "NEURON_RT_NUM_CORES", "NEURON_RT_VISIBLE_CORES"


@dataclass
class TrainingRun:
    """What a run of scripts/train.py said: its log records, how many graphs XLA compiled, seconds, and where.

    In a rehearsal with a compile cache, `new_graphs` are those that the cache did not know.
    """

    method: str
    records: list[dict]
    graphs: int | None
    seconds: float
    where: str
    new_graphs: int | None = None

    def __str__(self) -> str:
        graphs = f", {self.graphs} graphs compiled" if self.graphs is not None else ""
        graphs += f", {self.new_graphs} of them new" if self.new_graphs is not None else ""
        return (
            f"{self.where}: {self.method}, {len(self.records)} steps in {clock(self.seconds)}{graphs}, {self._losses()}"
        )

    def _losses(self) -> str:
        if not self.records:
            return "no step was logged"
        return f"loss {self.records[0]['loss']:.3f} → {self.records[-1]['loss']:.3f}"

    def told_graphs(self) -> str:
        """How many graphs were compiled, and how many of them after some of the steps, where the records tell it."""
        total = "graphs were not counted" if self.graphs is None else f"{self.graphs} graphs"
        by_step = {record["step"]: record["graphs"] for record in self.records if "graphs" in record}
        if not by_step:
            return f"{total} in {len(self.records)} steps; not told by step: recorded before steps logged their graphs"
        steps, quarter = list(by_step), max(1, len(by_step) // 4)
        shown = sorted({*steps[:4], *steps[quarter - 1 :: quarter]})
        counts = ", ".join(str(by_step[step]) for step in shown)
        return f"{total} in {len(self.records)} steps; after step {', '.join(map(str, shown))}: {counts}"


def train_command(method: str, **settings) -> list[str]:
    """The arguments after the Python interpreter: `scripts/train.py --method orpo --max_steps 12 …`."""
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return ["scripts/train.py", "--method", method, *options]


def command_text(command: list[str], width: int = 100) -> str:
    """A command line to copy, broken between arguments where it would be too long to read."""
    groups = [""]  # an option and its value stay together
    for part in map(shlex.quote, command):
        groups += [part] if part.startswith("--") else []
        groups[-1] += "" if part.startswith("--") else f" {part}"
    lines = [groups[0].strip()]
    for group in groups[1:]:
        if len(lines[-1]) + len(group) < width:
            lines[-1] += f" {group}"
        else:
            lines.append(f"    {group}")
    return " \\\n".join(lines)


def can_rehearse() -> bool:
    """True once `make rehearse` has installed the rehearsal's environment."""
    return REHEARSAL_PYTHON.is_file() and any(REHEARSAL_PYTHON.parents[1].glob(".ready-*"))


def rehearse(method: str, **settings) -> TrainingRun:
    """Train a two-layer model through the real Optimum Neuron on XLA's CPU device; a RuntimeError shows what failed."""
    settings = {"model": "smoke", "backend": "neuron"} | settings  # a rehearsal even where WORKSHOP_BACKEND says cpu
    command = [str(REHEARSAL_PYTHON), "-m", "tests.rehearsal.launch", *train_command(method, **settings)]
    return follow(command, method, "rehearsal on XLA's CPU device")


def on_cores(command: list[str], cores: int = 2) -> list[str]:
    """The whole command line that runs `train_command(…)` on this machine's NeuronCores, one process a core."""
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={cores}", *command]


def train_on_trainium(method: str, cores: int = 2, listen: Listener | None = None, **settings) -> TrainingRun:
    """Train on this machine's NeuronCores. `listen` gets every line: the `hear` of a `CompileCache.watch()`.

    Raises ValueError where the environment names other cores than those asked for, RuntimeError for a run that fails.
    """
    check_cores(cores)
    command = on_cores(train_command(method, **settings), cores)
    return follow(command, method, f"{cores} NeuronCores", listen)


def check_cores(cores: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError unless the runtime can give `cores` processes one NeuronCore each.

    A collective runs over one core or an even number of them.
    """
    if cores < 1 or (cores > 1 and cores % 2):
        raise ValueError(f"cores={cores}: training runs on 1 NeuronCore or an even number of them: choose 1 or 2")
    check_visible_cores(cores, environment)


def check_visible_cores(cores: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raise ValueError where the environment gives another number of NeuronCores than there are processes.

    NEURON_RT_VISIBLE_CORES lists cores such as 0-3,6 and wins over NEURON_RT_NUM_CORES, as in the AWS Neuron
    documentation ("NeuronX Runtime Configuration").
    """
    for name, count in ((VISIBLE_CORES, _count_listed), (NUM_CORES, int)):
        if value := environment.get(name, "").strip():
            try:
                number = count(value)
            except ValueError:
                raise ValueError(f"{name}={value} names no cores: unset it, or give such as 0-1 or 2") from None
            if number != cores:
                raise ValueError(
                    f"cores={cores}, but {name}={value} gives {number}: unset it, or ask for cores={number}"
                )
            return


def _count_listed(value: str) -> int:
    """How many cores a list such as 0-3,6 has."""
    ranges = [[int(end) for end in part.split("-")] for part in value.split(",")]
    return len({core for ends in ranges for core in range(ends[0], ends[-1] + 1)})


def follow(command: list[str], method: str, where: str, listen: Listener | None = None) -> TrainingRun:
    """Run a command from the repository's root, with a line of progress, and read its JSON lines."""
    records, graphs, new_graphs, started = [], None, None, time.monotonic()
    print(f"{method}: starts")
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    for line in lines_of(command, environment):
        if listen:
            listen(line)
        if found := step_records(line):
            records += found
            progress = f"{method}: step {records[-1]['step']}, loss {records[-1]['loss']:.3f}"
            print(f"\r{progress}, {clock(time.monotonic() - started)}", end="", flush=True)
        elif found := re.search(r"XLA compiled (\d+) graphs(?:, (\d+) of them new)?", line):
            graphs, new_graphs = int(found[1]), int(found[2]) if found[2] else None
        elif re.match(r"graph \d+ ", line):
            print(f"\r{line:<60}", flush=True)
    if graphs is None and records:
        graphs = records[-1].get("graphs")
    seconds = time.monotonic() - started
    print(f"\n{method}: ended, {clock(seconds)} with starting and saving")
    return TrainingRun(method, records, graphs, seconds, where, new_graphs)


def step_records(line: str) -> list[dict]:
    """The log records in a line: JSON objects with a step and a loss, wherever they stand in it.

    The compiler's progress dots, another process's bar or its next line may share the line. Anything else that begins
    with a brace is no record of ours and is passed over.
    """
    records, start = [], line.find("{")
    while start >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(line, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            step, loss = found.get("step"), found.get("loss")
            records += [found] if type(step) is int and type(loss) in (int, float) else []
        start = line.find("{", end)
    return records


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

    replace_unprintable()
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
