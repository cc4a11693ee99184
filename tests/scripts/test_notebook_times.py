"""The line of a notebook that says how long it takes: worked by hand, and as the notebooks show it."""

import nbformat
import pytest

from helpers.files import REPOSITORY
from helpers.runs import recorded_runs
from scripts.notebook_times import TIMED, times_text


def run(notebook: float, training: float) -> dict:
    """A recorded run of notebook 02 alone, in seconds."""
    machine = {"cpu": "a CPU", "cores": 2, "accelerator": "none"}
    trained = {"train_seconds": training, "precision": "float32"}
    return {"machine": machine, "notebook_seconds": {"02_sft_baseline": notebook}, "methods": {"sft": trained}}


def notebook_of(*printed: str):
    outputs = [nbformat.v4.new_output("stream", text=text) for text in printed]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("train", outputs=outputs)])


def test_a_run_that_went_on_with_a_stopped_training_does_not_count():
    runs = [run(400, 190), run(300.5, 120), run(40, 200)]
    told = times_text("02_sft_baseline", runs, notebook_of("step 9/20  0:50 gone\n", "step 20/20  10:24 gone  done"))
    assert told == (
        "In the recorded runs (a CPU, 2 cores, no accelerator, float32) training took 2:00 to 3:10 (minutes:seconds), "
        "and the other cells 3:00 to 3:30. The training shown below took 10:24."
    )
    one = times_text("02_sft_baseline", runs[:1], notebook_of("step 9/20  0:50 gone"))
    assert one.endswith("training took 3:10 (minutes:seconds), and the other cells 3:30.")
    assert times_text("02_sft_baseline", runs[2:], notebook_of()) == "No run of this notebook is recorded."


def test_runs_of_two_machines_name_both():
    other = run(400, 190) | {"machine": {"cpu": "another", "cores": 4, "accelerator": "none"}}
    told = times_text("02_sft_baseline", [run(400, 190), other], notebook_of())
    assert "(a CPU, 2 cores, no accelerator, float32 and another, 4 cores, no accelerator, float32)" in told


@pytest.mark.parametrize("name", TIMED)
def test_the_notebooks_say_what_was_recorded_and_what_they_show(name):
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    told = times_text(name, recorded_runs("laptop"), notebook)
    assert f"<!-- times -->\n{told}\n<!-- /times -->" in notebook.cells[0].source, "run make figures"
