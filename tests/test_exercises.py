"""Every exercise: only the worked answer passes its check, a blank or a wrong one gets a hint, and nothing drifts."""

import contextlib
import io
import re

import nbformat
import pytest

from helpers import exercises
from scripts.make_exercises import EXERCISES, SOLUTIONS, exercise_of, text_of

NOTEBOOKS = sorted(path.stem for path in SOLUTIONS.glob("*.ipynb"))


def read(folder, name: str):
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def said(namespace: dict, *sources: str) -> str:
    """What cells print, executed in this namespace."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        for source in sources:
            exec(source, namespace)
    return output.getvalue()


def printed(cell) -> str:
    """What a cell's output shows; nothing but text is there."""
    assert all(output.output_type == "stream" for output in cell.outputs), "as a progress bar, which stands at 0%"
    return "".join(output.text for output in cell.outputs)


@pytest.mark.usefixtures("tokenizer")  # says once that it is made
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_only_the_solution_passes_and_every_other_answer_gets_a_hint(name):
    """Each cell prints what it shows, the check of a worked answer that it is right; no other answer is."""
    cells = [cell for cell in read(SOLUTIONS, name).cells if cell.cell_type == "code"]
    namespace, solved = {}, 0
    for cell, check in zip(cells, [*cells[1:], None], strict=True):
        if "exercise" in cell.metadata:
            exercise = cell.metadata.exercise
            blank = said(namespace, exercise.blank, check.source)
            assert blank == f"✗ {exercises.UNSOLVED}\n"
            hints = [said(namespace, wrong, check.source) for wrong in exercise.wrong]
            assert len(set(hints)) == 2, f"{hints}: two wrong answers, each with a hint of its own"
            for hint in hints:
                assert hint.startswith("✗ ") and hint.count("\n") == 1 and exercises.UNSOLVED not in hint
            assert printed(check).startswith("✓ ")
            solved += 1
        assert said(namespace, cell.source) == printed(cell), "run make exercises: the output shown is another one"
    assert solved == 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_exercises_are_the_solutions_without_their_answers(name):
    assert text_of(exercise_of(read(SOLUTIONS, name))) == (EXERCISES / f"{name}.ipynb").read_text(encoding="utf-8")
    assert [path.stem for path in sorted(EXERCISES.glob("*.ipynb"))] == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_three_exercises_are_on_three_levels(name):
    text = "\n".join(cell.source for cell in read(EXERCISES, name).cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (\d · \w+):", text, re.MULTILINE) == ["1 · Read", "2 · Change", "3 · Build"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_show_the_outputs_of_their_run(name):
    cells = [cell for cell in read(SOLUTIONS, name).cells if cell.cell_type == "code"]
    checks = [printed(cell) for cell in cells if cell.source.startswith("exercises.check_")]
    assert len(checks) == 3 and all(text.startswith("✓ ") for text in checks)


def test_an_answer_that_fails_is_told_and_no_traceback_is_shown(capsys):
    def broken(mean_logp):
        raise KeyError("nothing")

    assert exercises.check_perplexity(broken) is False
    assert capsys.readouterr().out == "✗ your answer stops with KeyError: 'nothing'\n"
