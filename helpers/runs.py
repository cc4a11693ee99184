"""The run folder: everything that is measured goes in, and plots, tables and the report read from it.

    runs/<time>-<profile>/
      results.json                  what was measured (schema: README, "The run folder")
      notebooks/, report.html       when the notebooks were executed headless
      <method>/                     one stage for each of base, sft, orpo
        settings.json  log.jsonl  monitor.jsonl  heldout.json  result.json
        checkpoints/  model/
    runs/latest                     points to the newest run

Nothing is half-written: JSON files are replaced whole, JSON Lines lose at most a torn last line.
"""

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

from helpers.cache import REPOSITORY

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "optimum-neuron", "botocore")


def runs_folder() -> Path:
    """Where runs are kept: $WORKSHOP_RUNS, or runs/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_RUNS", REPOSITORY / "runs"))


# ── files that are whole or absent ──────────────────────────────────────────────────────────────────────────


def write_json(path: Path, data) -> None:
    """Write JSON to a sibling, then rename it over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, default=None):
    """The JSON in `path`, or `default` where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def read_lines(path: Path) -> list[dict]:
    """The records of a JSON Lines file. A last line torn by a kill is no record yet and is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]  # what follows the last newline is torn or empty


def append_line(path: Path, record: dict) -> None:
    """Append one record and its newline in a single write, after cutting off a torn last line."""
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


def open_run(profile) -> "Run":
    """The run that notebooks write to: $WORKSHOP_RUN, else the latest of this profile and seed, else a new one."""
    if named := os.environ.get("WORKSHOP_RUN"):
        return Run(Path(named), profile)
    latest = runs_folder() / "latest"
    if (latest / "results.json").is_file():
        results = read_json(latest / "results.json")
        if (results.get("profile"), results.get("seed")) == (profile.name, profile.seed):
            return Run(latest.resolve(), profile)
    return new_run(profile)


def new_run(profile) -> "Run":
    """Make runs/<time>-<profile>/ and point runs/latest to it."""
    folder = runs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{profile.name}"
    path = folder / name
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    run = Run(path, profile)
    link = folder / f".latest.{os.getpid()}"
    link.symlink_to(path.name)
    os.replace(link, folder / "latest")
    return run


class Run:
    """One run folder. Opening it writes who, when and on what machine into results.json."""

    def __init__(self, path: Path, profile):
        self.path, self.profile = path, profile
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "results.json").is_file():
            self.write_results(
                profile=profile.name,
                seed=profile.seed,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=machine_info(),
                versions=versions(),
                methods={},
            )

    @property
    def results(self) -> dict:
        """What is in results.json now."""
        return read_json(self.path / "results.json", {})

    def write_results(self, **parts) -> None:
        """Merge top-level parts into results.json; dictionaries are merged, everything else replaced."""
        results = self.results
        for key, value in parts.items():
            both_dicts = isinstance(value, dict) and isinstance(results.get(key), dict)
            results[key] = results[key] | value if both_dicts else value
        write_json(self.path / "results.json", results)

    def stage(self, name: str) -> "Stage":
        """The folder of one method: base, sft, orpo, …"""
        return Stage(self.path / name)

    def require(self, method: str) -> dict:
        """The result of a method, or a FileNotFoundError that names the notebook to run first."""
        if method not in self.results.get("methods", {}):
            notebook = {"base": "01", "sft": "02", "orpo": "04"}.get(method, "that measures it")
            raise FileNotFoundError(f"this run has no result for {method!r} yet: run notebook {notebook} first")
        return self.results["methods"][method]


class Stage:
    """One method's folder in a run: its settings, logs, checkpoints and result."""

    def __init__(self, path: Path):
        self.path, self.checkpoints, self.model_path = path, path / "checkpoints", path / "model"
        path.mkdir(parents=True, exist_ok=True)

    def start(self, settings: dict) -> int:
        """Say in one line whether training starts or resumes; returns the step it starts from.

        A checkpoint is used only if it was made with the same settings and the stage had not finished.
        """
        settings = json.loads(json.dumps(settings))
        stopped = read_json(self.path / "settings.json")
        checkpoint = self.last_checkpoint()
        if self.finished:
            reason = "starting again: it had finished before"
        elif checkpoint and stopped != settings:
            changed = sorted(key for key in settings if (stopped or {}).get(key) != settings[key])
            reason = f"starting from the base model: the stopped run had other settings ({', '.join(changed)})"
        elif checkpoint:
            step = _step(checkpoint)
            self._keep_records_until(step)
            print(f"{self.path.name}: resuming from step {step} of a stopped run")
            return step
        else:
            reason = "starting from the base model"
        shutil.rmtree(self.path)
        self.path.mkdir()
        write_json(self.path / "settings.json", settings)
        print(f"{self.path.name}: {reason}")
        return 0

    def last_checkpoint(self) -> str | None:
        """The newest whole checkpoint. Trainer writes trainer_state.json last: one without it is removed."""
        whole = None
        for folder in sorted(self.checkpoints.glob("checkpoint-*"), key=_step):
            if (folder / "trainer_state.json").is_file():
                whole = str(folder)
            else:
                print(f"{self.path.name}: removing {folder.name}, which was cut off while it was written")
                shutil.rmtree(folder)
        return whole

    def _keep_records_until(self, step: int) -> None:
        for path in (self.path / "log.jsonl", self.path / "monitor.jsonl"):
            kept = [record for record in read_lines(path) if record["step"] <= step]
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
            os.replace(temporary, path)

    def log(self, record: dict) -> None:
        """Append one training record (it needs a `step`)."""
        append_line(self.path / "log.jsonl", record)

    def read_log(self) -> list[dict]:
        """The training records so far."""
        return read_lines(self.path / "log.jsonl")

    def write_monitor(self, record: dict) -> None:
        """Append one measurement on the small held-out set (it needs a `step`)."""
        append_line(self.path / "monitor.jsonl", record)

    def read_monitor(self) -> list[dict]:
        """The measurements so far."""
        return read_lines(self.path / "monitor.jsonl")

    @property
    def finished(self) -> bool:
        """True once `finish` has run."""
        return (self.path / "result.json").is_file()

    @property
    def result(self) -> dict:
        """What `finish` stored."""
        return read_json(self.path / "result.json", {})

    def finish(self, result: dict) -> None:
        """Store the result and drop the checkpoints, which are three times as large as the model."""
        write_json(self.path / "result.json", result)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _step(checkpoint) -> int:
    return int(Path(checkpoint).name.rsplit("-", 1)[1])


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────


def machine_info() -> dict:
    """CPU, cores, memory in bytes, accelerator, Python and system. No host, user or folder names."""
    import torch

    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "accelerator": accelerator,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide the numbers; those not installed are left out."""
    installed = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def peak_memory_bytes() -> int:
    """The largest resident set of this process so far. getrusage counts in KiB on Linux and in bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
