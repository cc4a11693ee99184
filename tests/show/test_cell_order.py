"""A cell that is run too early names the cell that comes first."""

import json

import pytest

from helpers.show import cell_order
from helpers.show.cell_order import what_comes_first

CELLS = {
    "02_a": [
        "import math as m",
        "x = 1  # the first",
        "def f():\n    y = 2\n    return y",
        "x = 2\nz = x",
        "print(x, y)",
    ],
    "04_b": ["x = 4", "print(x, w)"],
}


@pytest.fixture(autouse=True)
def notebooks(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name, sources in CELLS.items():
        cells = [{"cell_type": "markdown", "source": ["x = 0"]}]
        cells += [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources]
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(cell_order, "REPOSITORY", tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


@pytest.mark.parametrize(
    ("name", "source", "line"),
    [
        ("x", "print(x, y)", "x = 2"),
        ("x", "print(x, w)", "x = 4"),
        ("x", "x = 2\nz = x", "x = 1"),
        ("m", "print(x, y)", "import math as m"),
        ("f", "print(x, y)", "def f():"),
    ],
)
def test_the_nearest_cell_before_it_is_named(name, source, line):
    assert what_comes_first(name, source).startswith(f"{name!r} is not there yet: run the cell with `{line}` first")


@pytest.mark.parametrize(
    ("name", "source"),
    [("y", "print(x, y)"), ("w", "print(x, w)"), ("z", "x = 1  # the first"), ("x", "a cell of mine")],
)
def test_where_no_cell_before_makes_the_name_the_error_stays(name, source):
    assert what_comes_first(name, source) is None


def test_an_edited_cell_is_looked_up_in_the_notebook_of_the_kernel(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/lab/notebooks/04_b.ipynb")
    assert "`x = 4`" in what_comes_first("x", "print(x + 1)")
