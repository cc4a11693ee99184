"""Which build of torch: CUDA where there is an NVIDIA driver, else the CPU's, a quarter of its size."""

import json
import os
import platform
import shutil
import urllib.request
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

from scripts.install.pins import has, satisfied
from scripts.install.tools import pip, pip_arguments, pip_settings

CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")  # a mirror may stand for it


def choose_torch(pin: Requirement | None) -> tuple[str, list[str]]:
    """("cpu", "cuda" or "" where no torch is pinned, arguments that install it from an index of its own, or none).

    Prints which, and why.
    """
    if pin is None:
        return "", []
    if satisfied(pin):
        return "cuda" if has("nvidia-cudnn-cu13") or has("nvidia-cudnn-cu12") else "cpu", []
    if platform.system() != "Linux":
        return "cpu", []
    if nvidia_driver():
        print("torch: the CUDA build (an NVIDIA driver is here)")
        return "cuda", []
    own = own_index()
    if not own and answers(f"{CPU_INDEX}/torch/"):
        print(f"torch: the CPU build from {CPU_INDEX} (no NVIDIA driver here)")
        return "cpu", ["--no-deps", "--default-index", CPU_INDEX, f"{pin.name}{pin.specifier}+cpu"]
    build = configured_build(pin)
    what = "a CPU build" if build == "cpu" else "the CUDA build, four times as large as a CPU build"
    why = f"{own} is set" if own else f"{CPU_INDEX} does not answer"
    print(f"torch: {what}: {why}, and this is what pip finds (TORCH_CPU_INDEX=… names a mirror of the CPU builds)")
    return build, []


def nvidia_driver() -> bool:
    """True if a driver is loaded (on WSL, where it is Windows's, nvidia-smi is the sign)."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def own_index() -> str:
    """The setting that replaces PyPI, "" if none does: nothing is fetched from elsewhere then, unless it is named."""
    if "TORCH_CPU_INDEX" in os.environ:
        return ""
    if any(argument.startswith(("-i", "--index-url", "--no-index")) for argument in pip_arguments()):
        return "PIP_ARGS"
    return next((f"pip's {name}" for name in ("index-url", "no-index") if name in pip_settings()), "")


def answers(url: str, seconds: float = 5) -> bool:
    """True if the index answers in time, through the proxy where one is set."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except (OSError, ValueError):
        return False


def configured_build(pin: Requirement) -> str:
    """Which build pip would take from the index that is configured: the CUDA build needs NVIDIA's packages."""
    command = ["install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", *pip_arguments()]
    report = json.loads(pip(*command, str(pin), capture=True))
    needs = (Requirement(text) for text in report["install"][0]["metadata"].get("requires_dist", []))
    applies = [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return "cuda" if any(name.startswith(("nvidia-", "cuda-")) for name in applies) else "cpu"
