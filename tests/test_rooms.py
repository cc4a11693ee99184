"""The order of the rooms: nobody imports upwards, lazily neither, and every name that a room offers exists."""

import importlib
import subprocess
import sys

import networkx
import pytest

from helpers.files import REPOSITORY
from scripts import rooms

MODULES = rooms.modules()
ROOMS = [room for room in rooms.ORDER if (REPOSITORY / "helpers" / room).is_dir()]
LONGEST = 300  # lines


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_upwards(name):
    here, needs = rooms.room_of(name), rooms.rooms_imported(MODULES[name])
    if name == "helpers":
        assert not needs, "helpers/__init__.py lies below all rooms"
        return
    assert here, f"{name} lies in no room: give it a place in scripts/rooms.py"
    above = {room for room in needs if rooms.ORDER.index(room) > rooms.ORDER.index(here)}
    assert not above, f"{name} imports {above}, which lie above {here}"


def test_an_import_that_hides_is_found():
    lazy = "def later():\n    from helpers.show import plots\n"
    assert rooms.rooms_imported(lazy) == {"show"}
    assert rooms.rooms_imported("import importlib\nimportlib.import_module('helpers.neuron.orpo')\n") == {"neuron"}
    assert rooms.rooms_imported("from helpers import exports\nimport numpy\n") == set()


def test_modules_import_each_other_in_no_circle():
    graph = networkx.DiGraph()
    for name, source in MODULES.items():
        for needed in rooms.imported(source):
            graph.add_edges_from(
                (name, other) for other in MODULES if f"{needed}.".startswith(f"{other}.") and other != name
            )
    packages = {rooms.module_name(path) for path in (REPOSITORY / "helpers").rglob("__init__.py")}
    graph.remove_nodes_from(packages)
    assert networkx.is_directed_acyclic_graph(graph), networkx.find_cycle(graph)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_exists_and_a_wrong_one_is_refused(room):
    package = importlib.import_module(f"helpers.{room}")
    assert "import" in package.__doc__ and len(package.__doc__.strip().splitlines()) >= 3, "who may import it?"
    for name in getattr(package, "__all__", ()):
        if not (room == "neuron" and name.startswith("Neuron")):  # those need Optimum Neuron's packages
            assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.no_such_name


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("helpers.")])
def test_a_module_has_the_name_of_nothing_that_its_room_offers(name):
    """Importing helpers.data.pairs sets the attribute `pairs` of helpers.data to the module, over what it offers."""
    room, module = name.rpartition(".")[::2]
    assert module not in getattr(importlib.import_module(room), "__all__", ())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("scripts")])
def test_a_module_is_one_idea_of_readable_length(name):
    assert len(MODULES[name].splitlines()) <= LONGEST


def test_the_picture_in_contributing_is_the_code():
    assert rooms.picture() in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"), "run make figures"


def test_make_run_starts_without_loading_torch():
    """The kernels load it; the process that starts them would keep people waiting, and hold the memory all the time."""
    code = "import sys, scripts.run_workshop; sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
