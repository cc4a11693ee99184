"""Are the pinned packages those of this environment?"""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

from helpers.files import REPOSITORY
from helpers.preflight.check import Check

TRAINIUM = "requirements-neuron.txt"  # the pins of a Trainium machine


def packages_check(requirements: Path | None = None) -> Check:
    """Every pinned package of this environment is installed at its pin, and torch-xla is of torch's release."""
    requirements = requirements or requirements_here()
    pins = read_pins(requirements)
    wrong = [f"{name} {installed(name)} (pinned {pin})" for name, pin in pins.items() if installed(name) != pin]
    xla, release = installed("torch-xla"), ".".join(installed("torch").split(".")[:2])
    if xla not in ("missing", *pins.values()) and not xla.startswith(f"{release}."):
        wrong.append(f"torch-xla {xla} (torch is {installed('torch')}: {release}.* fits)")
    found = f"{len(pins)} pinned packages" if not wrong else ", ".join(wrong)
    fix = f"pip install -r {requirements.name}"
    if requirements.name != TRAINIUM:
        fix = f"run `make setup`, or {fix}"
    return Check("packages", not wrong, found, fix)


def pythonpath_check() -> Check:
    """No folder of $PYTHONPATH holds another version of a pinned package: it would win over the environment's."""
    pins = read_pins(requirements_here())
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        there = {found.name: found.version for found in importlib.metadata.distributions(path=[folder])}
        modules = {name for name in pins if _holds_module(Path(folder), name.replace("-", "_"))}
        there = dict.fromkeys(modules, "of no known version") | there
        if wrong := [f"{name} {there[name]}" for name, pin in pins.items() if there.get(name, pin) != pin]:
            found = f"{folder} has {', '.join(wrong)}, which win over this environment's"
            return Check("PYTHONPATH", False, found, "unset PYTHONPATH")
    return Check("PYTHONPATH", True, "hides no package")


def _holds_module(folder: Path, name: str) -> bool:
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()


def requirements_here() -> Path:
    """The pins of a Trainium machine where AWS's packages are installed, else the workshop's."""
    trainium = installed("neuronx_distributed") != "missing"
    return REPOSITORY / (TRAINIUM if trainium else "requirements.txt")


def read_pins(requirements: Path) -> dict[str, str]:
    """{name: version} of the lines `name==version` whose Python marker applies here."""
    pins = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
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
