"""All checks of the pre-flight, cheap ones first. None imports torch before the packages are known to be right."""

import os
import shutil
import sys
from pathlib import Path

import psutil

from helpers.files import cache_folder
from helpers.preflight.check import Check
from helpers.preflight.cores import cores_check
from helpers.preflight.jupyter import kernel_check, widgets_check
from helpers.preflight.model import model_check
from helpers.preflight.packages import packages_check, pythonpath_check
from helpers.runs import limits
from helpers.runs.folder import runs_folder
from helpers.training.profiles import Profile, get_profile

GIB = 2**30
# GiB by profile, above what the notebooks take where memory is scarce (`helpers.training.recipe.SCARCE`).
MEMORY_NEEDED = {"smoke": 2, "laptop": 2.5}
# GiB by profile: written to the runs folder (the two models of notebooks 02 and 04 with their adapters; notebook 07
# writes more), to the cache while the base model is fetched and converted, and to what Hugging Face's libraries keep.
DISK_NEEDED = {"smoke": (0.3, 0.3, 0.1), "laptop": (1.3, 0.8, 0.3)}


def checks(profile: Profile | None = None) -> list[Check]:
    """All checks for a run of `profile` ($PROFILE's, else the laptop's)."""
    profile = profile or get_profile()
    name = profile.name
    packages = [python_check(), pythonpath_check(), packages_check()]
    around = [kernel_check(), widgets_check(), memory_check(name), processors_check(), disk_check(name)]
    broken = not all(check.ok for check in packages)
    model = Check("base model", False, "not looked for", "first the packages") if broken else model_check(profile.model)
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


def hub_folder() -> Path:
    """Where Hugging Face's libraries keep models and data sets: $HF_HOME, or their folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("HF_HOME") or f"{cache}/huggingface"))


def written_folders() -> dict[str, Path]:
    """{the variable that moves it: a folder that a run writes to}."""
    return {"WORKSHOP_RUNS": runs_folder(), "WORKSHOP_CACHE": cache_folder(), "HF_HOME": hub_folder()}


def disk_check(profile: str = "laptop") -> Check:
    """Enough disk where runs and models are written, for a run of the profile."""
    needs: dict[int, dict[str, tuple[Path, float]]] = {}
    kept = ("runs", "models", "what comes from the hub")
    for what, folder, needed in zip(kept, written_folders().values(), DISK_NEEDED[profile], strict=True):
        places = needs.setdefault(existing(folder).stat().st_dev, {})
        if what != kept[-1] or "models" not in places:  # the model comes from the hub, or is made in the cache
            places[what] = existing(folder), needed
    found = []
    for places in needs.values():
        needed, free = sum(need for _, need in places.values()), shutil.disk_usage(next(iter(places.values()))[0]).free
        state = "free for " + " and ".join(places)
        check = _enough("disk", free, needed, state, f"free some, or set {' or '.join(written_folders())}")
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
    for variable, folder in written_folders().items():
        if not (existing(folder).is_dir() and os.access(existing(folder), os.W_OK)):
            return Check("folders", False, f"{existing(folder)} can't be written to", f"set {variable} to another")
    return Check("folders", True, "runs, models and what comes from the hub can be written")
