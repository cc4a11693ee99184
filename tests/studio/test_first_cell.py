"""The first cell of every notebook: with another kernel it says in one line which to choose."""

import json
import subprocess
import sys

import pytest

from helpers.files import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def first_code(path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])


def test_it_is_the_same_everywhere():
    assert len({first_code(path) for path in NOTEBOOKS}) == 1 and len(NOTEBOOKS) >= 8


@pytest.mark.parametrize("packages", ["neither", "helpers only", "both"])
def test_it_names_the_kernel_where_packages_are_missing(tmp_path, packages):
    """A Python with nothing installed, in which empty modules stand for what is there."""
    for name in {"neither": [], "helpers only": ["helpers"], "both": ["helpers", "trl"]}[packages]:
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "cell.py").write_text(first_code(NOTEBOOKS[0]), encoding="utf-8")
    command = [sys.executable, "-S", "cell.py"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONUTF8": "1"}, capture_output=True, text=True)
    assert (done.returncode == 0) is (packages == "both")
    if packages != "both":
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert "ORPO workshop" in done.stderr and "make setup" in done.stderr
