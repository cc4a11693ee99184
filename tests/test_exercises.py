"""Every exercise: only the worked answer passes its check, a blank or a wrong one gets a hint, and nothing drifts."""

import contextlib
import io

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


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_only_the_solution_passes_and_every_other_answer_gets_a_hint(name):
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
            assert said(namespace, cell.source, check.source).startswith("✓ ")
            solved += 1
        said(namespace, cell.source)
    assert solved == 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_exercises_are_the_solutions_without_their_answers(name):
    assert text_of(exercise_of(read(SOLUTIONS, name))) == (EXERCISES / f"{name}.ipynb").read_text(encoding="utf-8")
    assert [path.stem for path in sorted(EXERCISES.glob("*.ipynb"))] == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_show_the_outputs_of_their_run(name):
    cells = [cell for cell in read(SOLUTIONS, name).cells if cell.cell_type == "code"]
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    checks = [text for cell, text in zip(cells, printed, strict=True) if cell.source.startswith("exercises.check_")]
    assert len(checks) == 3 and all(text.startswith("✓ ") for text in checks)


def test_an_answer_that_fails_is_told_and_no_traceback_is_shown(capsys):
    def broken(mean_logp):
        raise KeyError("nothing")

    assert exercises.check_perplexity(broken) is False
    assert capsys.readouterr().out == "✗ your answer stops with KeyError: 'nothing'\n"
