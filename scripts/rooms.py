"""The rooms of helpers/ and who imports whom, read from the code: as a check for the tests and as a picture.

python scripts/rooms.py        prints the picture as a Mermaid graph; `make figures` puts it into CONTRIBUTING.md
"""

import ast
import re
import sys
from pathlib import Path

import networkx

REPOSITORY = Path(__file__).resolve().parents[1]
# From the ground up: a room may import what stands before it.
ORDER = (
    *("files", "aws", "credentials", "store", "objective", "data", "runs", "training", "evaluation"),
    *("neuron", "sagemaker", "preflight", "backends", "show", "exercises", "techniques", "benchmarks", "scripts"),
)
FOLDERS = ("helpers", "benchmarks", "scripts")


def modules() -> dict[str, str]:
    """Every module outside the tests and its source: helpers/data/load.py is helpers.data.load."""
    paths = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
    return {module_name(path): path.read_text(encoding="utf-8") for path in paths}


def module_name(path: Path) -> str:
    """The dotted name of a file; a package's __init__ is the package."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room that a dotted name lies in; None for `helpers` itself, what it defines, and other packages."""
    top, _, rest = module.partition(".")
    room = rest.partition(".")[0] if top == "helpers" else top
    return room if room in ORDER else None


def imported(source: str) -> set[str]:
    """All modules that a source imports, wherever in it: by statement, or by a name in a string (lazily)."""
    found = set(re.findall(r"[\"'](helpers(?:\.\w+)+)[\"']", source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def rooms_imported(source: str) -> set[str]:
    """The rooms that a source imports."""
    return {room for module in imported(source) if (room := room_of(module))}


def arrows() -> list[tuple[str, str]]:
    """Who needs whom, without the arrows that follow from others: (above, below), from the top down."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(ORDER)
    for name, source in modules().items():
        if here := room_of(name):
            graph.add_edges_from((here, room) for room in rooms_imported(source) if room != here)
    reduced = networkx.transitive_reduction(graph)
    return sorted(reduced.edges, key=lambda edge: [-ORDER.index(room) for room in edge])


def picture() -> str:
    """A Mermaid graph, which GitHub and JupyterLab draw."""
    lines = [f"    {above} --> {below}" for above, below in arrows()]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


if __name__ == "__main__":
    sys.stdout.write(picture() + "\n")
