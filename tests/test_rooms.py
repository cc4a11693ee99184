"""The order of the rooms: nobody imports upwards, lazily neither, and every name that a room offers exists."""

import ast
import importlib
import re

import pytest

from helpers.files import REPOSITORY

ORDER = [
    "files",
    "objective",
    "data",
    "runs",
    "training",
    "evaluation",
    "neuron",
    "preflight",
    "backends",
    "show",
    "techniques",
    "benchmarks",
    "scripts",
]
ROOMS = [name for name in ORDER if (REPOSITORY / "helpers" / name / "__init__.py").exists()]
MODULES = sorted(
    path for folder in ("helpers", "benchmarks", "scripts") for path in (REPOSITORY / folder).rglob("*.py")
)
LONGEST = 370


def module_name(path) -> str:
    """helpers/data/load.py → helpers.data.load; a package's __init__ is the package."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room that a module's dotted name lies in; None for `helpers` itself and for other packages."""
    top, _, rest = module.partition(".")
    if top == "helpers":
        return rest.partition(".")[0] or None
    return top if top in ORDER else None


def imported(source: str) -> set[str]:
    """All modules that a file imports, wherever in the file, by statement or by a name in a string."""
    found = set(re.findall(r"[\"'](helpers(?:\.\w+)+)[\"']", source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a name comes from"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nobody_imports_upwards(path):
    here = room_of(module_name(path))
    rooms = {room for module in imported(path.read_text(encoding="utf-8")) if (room := room_of(module))}
    if here is None:
        assert not rooms, "helpers/__init__.py lies below all rooms"
        return
    assert rooms - {"exports"} <= set(ORDER), "a room without a place in the order"
    above = {room for room in rooms - {"exports"} if ORDER.index(room) > ORDER.index(here)}
    assert not above, f"{here} imports {above}, which lie above it"


def test_modules_of_one_room_import_each_other_in_no_circle():
    inside = {module_name(path): imported(path.read_text(encoding="utf-8")) for path in MODULES}
    needs = {
        name: {
            other for other in inside if other != name and any(m == other or m.startswith(other + ".") for m in found)
        }
        for name, found in inside.items()
        if not name.endswith("__init__") and name.count(".") >= 1
    }
    packages = {module_name(path.parent / "__init__.py") for path in MODULES}
    needs = {name: {other for other in others if other not in packages} for name, others in needs.items()}
    while leaves := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in leaves:
            del needs[name]
    assert not needs, f"a circle among {sorted(needs)}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_exists_and_a_wrong_one_is_refused(room):
    package = importlib.import_module(f"helpers.{room}")
    assert package.__doc__ and "import" in package.__doc__, "the docstring says who may import the room"
    assert len(package.__doc__.strip().splitlines()) >= 3
    for name in getattr(package, "__all__", ()):
        if not (room == "neuron" and name.startswith("Neuron")):  # those need Optimum Neuron's packages
            assert getattr(package, name) is not None
    with pytest.raises((AttributeError, ImportError)):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[-2] != "scripts"], ids=module_name)
def test_a_module_is_one_idea_of_readable_length(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
