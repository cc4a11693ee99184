"""The run folder: everything that is measured goes in, and plots, tables and the report read from it.

    runs/<time>-<profile>/
      results.json                  what was measured, each result once (schema: docs/reference.md)
      notebooks/, report.html       when the notebooks were executed headless
      <method>/                     one stage for each of base, sft, orpo (see `helpers.runs.stage`)
      variants/<method>-<setting>/  a method trained again with other settings
    runs/latest                     points to the newest run

Nothing is half-written: JSON files are replaced whole, JSON Lines lose at most a torn last line. results.json is read,
changed and written under a lock, so that two processes that write to it lose nothing.
"""

import errno
import json
import os
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from helpers.files import REPOSITORY, DamagedFile, read_json, write_json
from helpers.runs.lock import Lock
from helpers.runs.machine import here_and_now
from helpers.runs.stage import Stage
from helpers.runs.told import RunFirst, writing

NOTEBOOKS = {"base": "01", "sft": "02", "orpo": "04"}  # which one measures a method
BUILT_IN = "house-style"  # the source of pairs where none is noted
PARTS = ("methods", "data", "model", "machine", "versions", "run", "done", "begun")  # objects of our files
DERIVED = ("orpo_minus_sft", "generations")  # parts of results.json that no longer hold once a method's result changes


def runs_folder() -> Path:
    """Where runs are kept: $WORKSHOP_RUNS, or runs/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_RUNS") or REPOSITORY / "runs")


def open_run(profile, source: str | None = None) -> "Run":
    """The run that a notebook reads and goes on with. Nothing is made or moved before something is written to it.

    That is $WORKSHOP_RUN, else the newest run of this profile, model and seed, finished ones too, else a new one. Where
    a `source` of pairs is given, a run of other pairs is passed over.
    """
    if named := os.environ.get("WORKSHOP_RUN"):
        return Run(Path(named), profile)
    path = next((path for path in _newest_first() if _is_open(path, profile, source)), None)
    if path is None:
        return Run(runs_folder() / f"{datetime.now():%Y%m%d-%H%M%S}-{profile.name}", profile, is_new=True)
    if read_json(path / "state.json", {}).get("status") == "finished":
        print(f"{path.name} is finished: what it holds is read, not made again; new_run(profile) starts another")
    return Run(path, profile)


def latest_run() -> Path | None:
    """The folder that runs/latest points to; where there are no symbolic links, the newest by name; None for none."""
    return next(iter(_newest_first()), None)


def _newest_first() -> list[Path]:
    """All run folders: the latest, then the others by name."""
    made = sorted((path.parent for path in runs_folder().glob("[0-9]*-*/results.json")), reverse=True)
    latest = runs_folder() / "latest"
    return (
        [latest.resolve(), *(path for path in made if path.name != latest.resolve().name)] if latest.is_dir() else made
    )


def _is_open(path: Path, profile, source: str | None = None) -> bool:
    """True for a run of this profile, model, seed and source of pairs that `make run` does not work on now."""
    try:
        results, _ = read_object(path / "results.json"), read_object(path / "state.json")
    except ValueError as error:
        print(f"{error}; this run is passed over")
        return False
    if not results or run_lock(path).holder():
        return False
    same = (results.get("profile"), results.get("seed")) == (profile.name, profile.seed)
    other_pairs = source and "data" in results and results["data"].get("load_from", BUILT_IN) != place_of(source)
    return same and not other_pairs and results.get("model", {}).get("name", profile.model) == profile.model


def place_of(source: str) -> str:
    """A source of pairs as a run notes it: a file or folder by its whole path, anything else as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def new_run(profile) -> "Run":
    """Make runs/<time>-<profile>/ and point runs/latest to it."""
    run = Run(runs_folder() / f"{datetime.now():%Y%m%d-%H%M%S}-{profile.name}", profile, is_new=True)
    run.write_results()
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
    """The JSON object in a file, {} where there is none; a DamagedFile names a file that holds something else."""
    found = read_json(path, {})
    parts = {"it": found} | ({name: found.get(name, {}) for name in PARTS} if isinstance(found, dict) else {})
    if wrong := next((name for name, part in parts.items() if not isinstance(part, dict)), None):
        raise DamagedFile(f"{path.parent.name}/{path.name}: {wrong} is no JSON object: restore or delete the file")
    return found


class Run:
    """One run folder. To make this object touches nothing; the folder is made by the first write.

    is_new: with that write runs/latest moves to it, and if another run took its name meanwhile it gets a number.
    """

    def __init__(self, path: Path, profile, is_new: bool = False):
        self.path, self.profile, self.is_new = path, profile, is_new

    def make(self) -> None:
        """Make the folder, if that was not done yet."""
        if not self.is_new:
            return
        latest = self.path.with_name("latest")
        if latest.is_dir() and not latest.is_symlink():  # a copy that followed the link
            raise OSError(errno.EISDIR, "a folder is where the link to the newest run goes", str(latest))
        first, number = self.path, 1
        while True:
            try:
                self.path.mkdir(parents=True)  # two runs of one second each get their own
                break
            except FileExistsError:
                number += 1
                self.path = first.with_name(f"{first.name}-{number}")
        self.is_new = False
        _point_latest_to(self.path)

    @property
    def results(self) -> dict:
        """What is in results.json now."""
        begun = {"profile": self.profile.name, "seed": self.profile.seed, "methods": {}}
        return begun | read_object(self.path / "results.json")

    @property
    def source(self) -> str:
        """Where this run's pairs come from, as notebook 01 noted it for the others; the built-in domain before that."""
        return self.results.get("data", {}).get("load_from", BUILT_IN)

    @contextmanager
    def changing_results(self):
        """The results, to be changed in a `with` block and written at its end; other processes wait for that.

        What stays as it was is not written again. A NotWritten says where the system lets nobody write.
        """
        with ExitStack() as lock:
            with writing(self.path):
                self.make()
                path = self.path / "results.json"
                lock.enter_context(Lock(self.path / ".locks" / path.name).held())
            results = self.results
            before = json.dumps(results)
            yield results
            if not path.is_file() or json.dumps(results) != before:
                with writing(self.path):
                    write_json(path, results)

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
        if "gflops" not in self.results.get("machine", {}):
            self.measure_machine()
        return self.results["machine"]

    def measure_machine(self) -> None:
        """Note date, machine and versions as they are now."""
        self.write_results(**here_and_now())

    def stage(self, name: str) -> Stage:
        """The folder of one method: base, sft, orpo, …"""
        return Stage(self, name)

    def stage_for(self, method: str, settings: dict) -> Stage:
        """The stage of a method that has these settings, else a new one beside those that have others.

        The first one trained is named like the method; a later one also by what differs: variants/orpo-beta-0.1.
        """
        first = self.stage(method)
        beside = [self.stage(f"variants/{path.name}") for path in sorted(self.path.glob(f"variants/{method}-*"))]
        for stage in (first, *beside):
            if stage.begun and not stage.differences(settings):
                return stage.asked_for(settings)
        if not first.begun:
            return first.asked_for(settings)
        told = "-".join(f"{key}-{Path(str(ours)).name}" for key, (_, ours) in first.differences(settings).items())
        return self.stage(f"variants/{method}-{told}").asked_for(settings)

    def require(self, method: str) -> dict:
        """The result of a method, or a FileNotFoundError that names the notebook to run first."""
        if (result := self.result_of(method)) is None:
            notebook = NOTEBOOKS.get(method, "that measures it")
            raise RunFirst(
                f"this run has no result for {method!r} yet: run notebook {notebook} first, then this one from its top"
            )
        return result

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
