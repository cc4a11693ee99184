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

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import psutil

from helpers.files import REPOSITORY, append_line, read_json, read_lines, write_json, write_text
from helpers.runs.machine import here_and_now, hide_xla


def runs_folder() -> Path:
    """Where runs are kept: $WORKSHOP_RUNS, or runs/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_RUNS", REPOSITORY / "runs"))


def open_run(profile) -> "Run":
    """The run that notebooks write to: $WORKSHOP_RUN, else the latest if it is open to this profile, else a new one.

    What a notebook trains itself, it trains on the CPU or a CUDA GPU; on a Trainium trains a process of its own.
    """
    hide_xla()
    if named := os.environ.get("WORKSHOP_RUN"):
        return Run(Path(named), profile)
    latest = runs_folder() / "latest"
    return Run(latest.resolve(), profile) if _is_open(latest, profile) else new_run(profile)


def _is_open(path: Path, profile) -> bool:
    """True for a run of this profile, model and seed that `make run` has neither finished nor still works on.

    What `make run` finished belongs together and stays as it is.
    """
    results, state = read_json(path / "results.json"), read_json(path / "state.json", {})
    if results is None or state.get("status") == "finished":
        return False
    if state.get("status") == "running" and psutil.pid_exists(state["pid"]):
        return False
    same = (results.get("profile"), results.get("seed")) == (profile.name, profile.seed)
    return same and results.get("model", {}).get("name", profile.model) == profile.model


def new_run(profile) -> "Run":
    """Make runs/<time>-<profile>/ and point runs/latest to it."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{profile.name}"
    path, number = runs_folder() / name, 1
    while True:
        try:
            path.mkdir(parents=True)  # two runs of one second each get their own
            break
        except FileExistsError:
            number += 1
            path = runs_folder() / f"{name}-{number}"
    run = Run(path, profile)
    link = path.parent / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    os.replace(link, path.parent / "latest")
    return run


class Run:
    """One run folder. Opening it writes who, when and on what machine into results.json."""

    def __init__(self, path: Path, profile):
        self.path, self.profile = path, profile
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "results.json").is_file():
            self.write_results(profile=profile.name, seed=profile.seed, **here_and_now(), methods={})

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

    def start(self, settings: dict, origin: str = "the base model") -> int:
        """Say in one line whether training starts (from `origin`) or resumes; returns the step it starts from.

        A checkpoint is used only if it was made with the same settings and the stage had not finished.
        """
        settings = json.loads(json.dumps(settings))
        stopped = read_json(self.path / "settings.json")
        checkpoint = self.last_checkpoint()
        if self.finished:
            reason = "starting again: it had finished before"
        elif checkpoint and stopped != settings:
            changed = sorted(key for key in settings if (stopped or {}).get(key) != settings[key])
            reason = f"starting from {origin}: the stopped run had other settings ({', '.join(changed)})"
        elif checkpoint:
            step = _step(checkpoint)
            self._keep_records_until(step)
            print(f"{self.path.name}: resuming from step {step} of a stopped run")
            return step
        else:
            reason = f"starting from {origin}"
        (self.path / "settings.json").unlink(missing_ok=True)  # first: a kill from here on can't lead to a resume
        shutil.rmtree(self.path)
        self.path.mkdir()
        write_json(self.path / "settings.json", settings)
        print(f"{self.path.name}: {reason}")
        return 0

    def go_on_from(self, step: int) -> None:
        """Drop what an earlier run left behind after this step: its result, its model, and its later records."""
        (self.path / "result.json").unlink(missing_ok=True)
        shutil.rmtree(self.model_path, ignore_errors=True)
        self._keep_records_until(step)

    def last_checkpoint(self) -> str | None:
        """The newest whole checkpoint; those cut off by a kill are removed."""
        newest = None
        for folder in sorted(self.checkpoints.glob("checkpoint-[0-9]*"), key=_step):
            if _is_whole(folder):
                newest = str(folder)
            else:
                print(f"{self.path.name}: removing {folder.name}, which was cut off while it was written")
                shutil.rmtree(folder)
        return newest

    def _keep_records_until(self, step: int) -> None:
        for path in (self.path / "log.jsonl", self.path / "monitor.jsonl"):
            kept = [record for record in read_lines(path) if record["step"] <= step]
            write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))

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


def _is_whole(checkpoint: Path) -> bool:
    """Trainer writes trainer_state.json last: if that is there and whole, so is the rest."""
    try:
        return "global_step" in read_json(checkpoint / "trainer_state.json", {})
    except ValueError:
        return False
