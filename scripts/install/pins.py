"""What a requirements file pins, and whether this environment has it."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


class SetupError(Exception):
    """What is wrong, and the fix, in one line."""


def read_pins(requirements: Path) -> dict[str, Requirement]:
    """{name: requirement} of the lines whose marker applies here."""
    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {pin.name: pin for pin in found if pin.marker is None or pin.marker.evaluate()}


def environment() -> str:
    """The environment's folder, as short as it can be named."""
    return os.path.relpath(sys.prefix) if Path(sys.prefix).is_relative_to(Path.cwd()) else sys.prefix


def has(name: str) -> bool:
    """True if a package of this name is installed in this environment, and not in a folder from elsewhere."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return Path(str(found.locate_file(""))).is_relative_to(sys.prefix)


def satisfied(pin: Requirement) -> bool:
    """True if this version is installed in this environment (2.13.0+cpu is 2.13.0)."""
    return has(pin.name) and pin.specifier.contains(importlib.metadata.version(pin.name), prereleases=True)


def verify(pins: dict[str, Requirement]) -> None:
    """Raise SetupError unless every pin is installed here and torch can be imported."""
    importlib.invalidate_caches()
    if wrong := [str(pin) for pin in pins.values() if not satisfied(pin)]:
        command = [sys.executable, "-m", "pip", "config", "list"]
        settings = subprocess.run(command, capture_output=True, text=True).stdout
        suspects = re.findall(r"^\S*\.(?:target|prefix|user|root)=.*$", settings, re.MULTILINE)
        cause = f"pip is configured with {'; '.join(suspects)}" if suspects else "`pip config list` may tell why"
        raise SetupError(f"{', '.join(wrong)} did not arrive in {environment()}: {cause}")
    if "torch" in pins:
        tried = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, text=True)
        if tried.returncode:
            raise SetupError(f"torch is installed and can't be imported: {tried.stderr.strip().splitlines()[-1]}")
