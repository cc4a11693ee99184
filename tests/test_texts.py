"""What the texts of notebooks and of the instructors' page claim, held against the code and what is recorded."""

import itertools
import re

import nbformat
import pytest
import torch

from helpers.files import REPOSITORY
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.__main__ import main as cache_command
from helpers.neuron.compile_cache.sample import COMPILER, add_run, make_sample
from helpers.objective import orpo_loss
from helpers.preflight.times import in_one_go
from helpers.runs import recorded_runs
from scripts.notebook_times import TIMED
from tests.notebook_kernel import Cells

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(FOLDER.glob("*.ipynb"))}


def text_of(number: str) -> str:
    """The Markdown of a notebook."""
    (notebook,) = (notebook for name, notebook in NOTEBOOKS.items() if name.startswith(number))
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_push_and_pull_of_a_won_pair_are_the_gradients_of_the_loss():
    """03: two answers that are almost certain, and how hard they are still pushed apart."""
    numbers = re.search(
        r"p\(chosen\) = ([\d.]+) and p\(rejected\) = ([\d.]+), with β = (\d), the odds ratio is ([\d.]+), "
        r"and yet the push is ([\d.]+) and the pull (\d+\.\d+)",
        text_of("03"),
    )
    chosen, rejected, beta, ratio, push, pull = map(float, numbers.groups())
    logps = [torch.tensor([p]).log().requires_grad_() for p in (chosen, rejected)]
    orpo_loss(-logps[0], *logps, beta).backward()
    assert ratio == round(chosen / (1 - chosen) * (1 - rejected) / rejected, 2)
    assert [pull, push] == [round(-logps[0].grad.item(), 2), round(logps[1].grad.item(), 2)]


def test_what_is_pushed_and_what_its_count_holds(tmp_path):
    """06: the compiled graphs of one compiler, and the fingerprint of a run, which is no graph."""
    sample = CompileCache(make_sample(tmp_path / "sample"), compiler=COMPILER)
    add_run(sample.path)
    compiled = [entry for entry in sample.entries() if entry.state == "compiled"]
    of_one = [entry for entry in compiled if entry.compiler == COMPILER]
    sent = int(re.search(r"(\d+) sent", str(sample.push(str(tmp_path / "bucket"))))[1])
    assert sent == len(of_one) + 1 and len(of_one) < len(compiled)
    assert "only the compiled graphs of one compiler version" in text_of("06")
    assert "one item that is not a graph: the fingerprint of a run" in text_of("06")


def test_on_a_trainium_the_cell_compiles_into_the_cache_that_the_next_step_pushes(tmp_path, monkeypatch, capsys):
    """06, "Be warm before class": no folder that goes with the kernel, and the command names none either."""
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / "kept"))
    monkeypatch.delenv("NEURON_CC_FLAGS", raising=False)
    cells = Cells("06", tmp_path)
    cell = cells.sources[cells.id_with("classroom = CompileCache()")]
    names = {"has_trainium": lambda: True, "CompileCache": CompileCache, "folder": tmp_path / "goes"}
    exec(cell.replace("classroom.precompile(command);", ""), names)
    assert cache_command(["status"]) == 0
    assert names["classroom"].path == tmp_path / "kept" and str(tmp_path / "kept") in capsys.readouterr().out
    assert "python -m helpers.neuron.compile_cache push s3://bucket/class`" in text_of("06")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_tables_are_tables_and_no_output_holds_bars_or_codes_of_a_terminal(name):
    """Printed pipes break in lines on a projector; a bar stands at 0% where no kernel runs."""
    for cell in NOTEBOOKS[name].cells:
        for output in cell.get("outputs", []):
            said = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"\x1b|\d%\|", said), cell.source
            if "text/markdown" not in output.get("data", {}) and "text/html" not in output.get("data", {}):
                assert not re.search(r"^\|.*\|$", said, re.MULTILINE), cell.source


def test_the_readme_and_the_notebooks_give_the_same_minutes():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    minutes = dict(re.findall(r"^\| \[`(\d\d)_\w+`\]\S+ \| (\d+) min \|", readme, re.MULTILINE))
    told = {name[:2]: re.search(r"\*\*Time\*\* — (\d+) minutes", text_of(name[:2]))[1] for name in NOTEBOOKS}
    assert minutes == {number: told[number] for number in told if number != "de"}


# ── the instructors' page ───────────────────────────────────────────────────────────────────────────────────

LENGTHS = {"60": 0, "30": 1, "90": 2}  # minutes of a class: its column in the run of show


def run_of_show() -> list[list[str]]:
    """The cells of each row: three minutes, what is on screen, what to say."""
    page = (REPOSITORY / "docs" / "instructors.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines() if "|" in line]
    return [row + [""] * (5 - len(row)) for row in rows if re.fullmatch(r"\d+|–", row[0])]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_minutes_of_a_class_go_up_and_end_in_time(length):
    minutes = [int(row[LENGTHS[length]]) for row in run_of_show() if row[LENGTHS[length]] != "–"]
    assert minutes[0] == 0 and all(before < after for before, after in itertools.pairwise(minutes))
    assert int(length) - 8 <= minutes[-1] < int(length)


def test_each_row_names_what_is_there_and_a_note_where_it_says_note():
    rows = run_of_show()
    assert len(rows) >= 12
    for *_, screen, say in rows:
        for number in re.findall(r"\b(0\d)\b", screen):
            assert text_of(number)
        for heading in re.findall(r'"([^"]+)"', screen):
            assert f"## {heading}" in text_of(screen[:2])
        if say.startswith("note"):
            (cells,) = (notebook.cells for name, notebook in NOTEBOOKS.items() if name.startswith(screen[:2]))
            assert any("speaker_notes" in cell.metadata for cell in cells), screen


@pytest.mark.parametrize("length", ["60", "90"])
def test_what_attendees_start_early_is_done_when_it_is_needed(length):
    """01's result is there when 02 starts, and so on; 04's when its table is shown. By the slowest recorded run."""
    begins = {}
    for row in run_of_show():
        if started := re.search(r"\*Run All\* in (0\d)", row[3]):
            begins[started[1]] = int(row[LENGTHS[length]])
    needed = [begins["02"], begins["04"], next(int(row[LENGTHS[length]]) for row in run_of_show() if "04, " in row[3])]
    for (number, begun), until in zip(begins.items(), needed, strict=True):
        (name,) = (name for name in TIMED if name.startswith(number))
        took = [run["notebook_seconds"][name] for run in recorded_runs("laptop") if in_one_go(run, name)]
        slower = 1 if number == "04" else 2
        assert 60 * (until - begun) > slower * max(took), name
