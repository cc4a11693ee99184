"""The run folder: everything that is measured goes in, and plots, tables and the report read from it.

    runs/<time>-<profile>/
      results.json                  what was measured, each result once (schema: docs/reference.md)
      notebooks/, report.html       when the notebooks were executed headless
      <method>/                     one stage for each of base, sft, orpo (see `helpers.runs.stage`)
    runs/latest                     points to the newest run

Nothing is half-written: JSON files are replaced whole, JSON Lines lose at most a torn last line. results.json is read,
changed and written under a lock, so that two processes that write to it lose nothing.
"""

import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from helpers.files import REPOSITORY, read_json, write_json
from helpers.runs.lock import Lock
from helpers.runs.machine import here_and_now
from helpers.runs.stage import Stage

NOTEBOOKS = {"base": "01", "sft": "02", "orpo": "04"}  # which one measures a method
DERIVED = ("orpo_minus_sft", "generations")  # parts of results.json that no longer hold once a method's result changes


def runs_folder() -> Path:
    """Where runs are kept: $WORKSHOP_RUNS, or runs/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_RUNS") or REPOSITORY / "runs")


def open_run(profile) -> "Run":
    """The run that notebooks write to: $WORKSHOP_RUN, else the latest if it is open to this profile, else a new one."""
    if named := os.environ.get("WORKSHOP_RUN"):
        return Run(Path(named), profile)
    latest = latest_run()
    return Run(latest, profile) if latest and _is_open(latest, profile) else new_run(profile)


def latest_run() -> Path | None:
    """The folder that runs/latest points to; where there are no symbolic links, the newest by name; None for none."""
    latest = runs_folder() / "latest"
    if latest.is_dir():
        return latest.resolve()
    made = sorted(path.parent for path in runs_folder().glob("[0-9]*-*/results.json"))
    return made[-1] if made else None


def _is_open(path: Path, profile) -> bool:
    """True for a run of this profile, model and seed that `make run` has neither finished nor still works on.

    What `make run` finished belongs together and stays as it is.
    """
    try:
        results, state = read_object(path / "results.json"), read_object(path / "state.json")
    except ValueError as error:
        print(f"{error}; a new run is started")
        return False
    if not results or state.get("status") == "finished" or run_lock(path).holder():
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
    run.write_results()
    _point_latest_to(path)
    return run


def _point_latest_to(path: Path) -> None:
    link = path.parent / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(path.name)
    except OSError as error:
        print(f"runs/latest is not made, {path.parent} allows no symbolic links ({error.strerror}): see {path.name}")
        return
    os.replace(link, path.parent / "latest")


def run_lock(path: Path) -> Lock:
    """The lock of whoever executes all notebooks of a run: `make run` holds it until it ends."""
    return Lock(path / ".locks" / "run")


def read_object(path: Path) -> dict:
    """The JSON object in a file, {} where there is none; a ValueError names a file that holds something else."""
    found = read_json(path, {})
    if not isinstance(found, dict):
        raise ValueError(f"{path.parent.name}/{path.name} holds no JSON object: restore or delete the file")
    return found


class Run:
    """One run folder. To make this object touches nothing; the folder is made by the first write."""

    def __init__(self, path: Path, profile):
        self.path, self.profile = path, profile

    @property
    def results(self) -> dict:
        """What is in results.json now."""
        begun = {"profile": self.profile.name, "seed": self.profile.seed, "methods": {}}
        return begun | read_object(self.path / "results.json")

    @property
    def source(self) -> str:
        """Where this run's pairs come from, as notebook 01 noted it for the others; the built-in domain before that."""
        return self.results.get("data", {}).get("load_from", "aws-api")

    @contextmanager
    def changing_results(self):
        """The results, to be changed in a `with` block and written at its end; other processes wait for that."""
        with Lock(self.path / ".locks" / "results.json").held():
            results = self.results
            yield results
            write_json(self.path / "results.json", results)

    def write_results(self, **parts) -> None:
        """Merge top-level parts into results.json; dictionaries are merged, everything else replaced."""
        with self.changing_results() as results:
            for key, value in parts.items():
                both_dicts = isinstance(value, dict) and isinstance(results.get(key), dict)
                results[key] = results[key] | value if both_dicts else value

    def measured_machine(self) -> dict:
        """The machine of this run; the first call measures it (about a second) and notes it with date and versions.

        Its speeds decide the precision of training, so that they are measured once a run.
        """
        if "machine" not in self.results:
            self.measure_machine()
        return self.results["machine"]

    def measure_machine(self) -> None:
        """Note date, machine and versions as they are now."""
        self.write_results(**here_and_now())

    def stage(self, name: str) -> Stage:
        """The folder of one method: base, sft, orpo, …"""
        return Stage(self, name)

    def require(self, method: str) -> dict:
        """The result of a method, or a FileNotFoundError that names the notebook to run first."""
        if method not in self.results["methods"]:
            notebook = NOTEBOOKS.get(method, "that measures it")
            raise FileNotFoundError(f"this run has no result for {method!r} yet: run notebook {notebook} first")
        return self.results["methods"][method]

    # ── where a stage's result is: once, in results.json ────────────────────────────────────────────────────

    def result_of(self, stage: str) -> dict | None:
        """The result of a finished stage: under `methods`, and that of `group/name` under `group`, `stages`."""
        return _shelf(self.results, stage).get(Path(stage).name)

    def store_result(self, stage: str, result: dict | None) -> None:
        """Put a stage's result in its place, or take it away (None), and with it what was derived from the old one."""
        with self.changing_results() as results:
            shelf, name = _shelf(results, stage), Path(stage).name
            if "/" not in stage and shelf.get(name) != result:
                for part in DERIVED:
                    results.pop(part, None)
            shelf.pop(name, None)
            if result is not None:
                shelf[name] = result


def _shelf(results: dict, stage: str) -> dict:
    group = str(Path(stage).parent)
    return results.setdefault("methods", {}) if group == "." else results.setdefault(group, {}).setdefault("stages", {})
