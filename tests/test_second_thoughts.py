"""Notebooks opened after a finished run, cells out of order, other settings, the stop button, a new kernel."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from helpers.files import REPOSITORY
from tests.notebook_kernel import Cells

pytestmark = pytest.mark.notebooks

TRAINS = "train_stage(trainer"
OTHER = "from dataclasses import replace\nprofile = replace(profile, {})"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The runs folder after `make run PROFILE=smoke NOTEBOOKS=04`, which runs 01 and 02 too."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "scripts/run_workshop.py", "--profile", "smoke", "--runs-dir", str(runs)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKSHOP_RUN")}
    done = subprocess.run([*command, "--notebooks", "04"], cwd=REPOSITORY, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return runs


def contents(runs) -> dict:
    """Every file of the runs folder but the locks, and where runs/latest points."""
    files = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file() and ".locks" not in path.parts}
    return files | {"latest": (runs / "latest").resolve()}


def test_to_open_notebooks_makes_no_run_and_one_line_says_which_comes_first(tmp_path):
    runs = tmp_path / "runs"
    with Cells("04", runs) as notebook:
        said = notebook.fails(notebook.sources[notebook.id_with("open_run(profile)")])
        assert said == ["this run has no result for 'base' yet: run notebook 01 first, then this one from its top"]
        for number in ("00", "01", "05", "06", "07"):
            notebook.execute(Cells(number, runs).sources[Cells(number, runs).id_with("profile = get_profile()")])
    assert not runs.exists()


@pytest.mark.parametrize("number", ["00", "01"])
def test_a_finished_run_is_read_and_stays_as_it_is(finished, number):
    before = contents(finished)
    with Cells(number, finished) as notebook:
        said = notebook.run_all()
    assert contents(finished) == before
    assert "is finished: what it holds is read, not made again; new_run(profile) starts another" in said


def test_another_learning_rate_leaves_the_baseline_alone(finished):
    """Notebook 02 after a finished run, and its first exercise."""
    before = contents(finished)
    with Cells("02", finished) as notebook:
        early = notebook.fails(notebook.sources[notebook.id_with("find_stage(")])
        assert early == [
            "'run' is not there yet: run the cell with `run = open_run(profile)` first (or Run → Run All Above …)"
        ]
        said = notebook.run_all()
        assert "sft is trained already (4 steps): nothing to do" in said and "step 1/4" not in said
        assert contents(finished) == before
        notebook.execute(OTHER.format("learning_rate=2e-3"))
        said = notebook.run("find_stage(", "sft = evaluate(")
        assert "It stands beside sft, which stays as it is: learning_rate 0.002 in place of 0.001." in said
        assert "starting from the base model" in said and "step 4/4" in said
        notebook.run("comparison_table(")
    after = contents(finished)
    (run,) = {path for path in finished.iterdir() if not path.is_symlink()}
    changed = {path for path in before if before[path] != after.get(path)}
    assert changed == {run / "results.json"}
    results = json.loads((run / "results.json").read_text())
    assert results.pop("variants")["stages"]["sft-learning_rate-0.002"]["settings"]["learning_rate"] == 0.002
    assert results == json.loads(before[run / "results.json"])


def test_another_beta_can_be_stopped_and_gone_on_with_in_a_new_kernel(finished):
    """Notebook 04 after a finished run without training, its first exercise, the stop button, a restart."""
    before, other = contents(finished), OTHER.format("beta=0.1, steps=40, save_every=100")
    with Cells("04", finished) as notebook:
        said = notebook.run("open_run(profile)", "find_stage(") + notebook.run("model = load_trained", "generate(")
        assert "orpo: trained; its model is in" in said and "measured before" in said
        said = notebook.run_all()
        assert "orpo is trained already (4 steps): nothing to do" in said and contents(finished) == before
        notebook.execute(other)
        assert "beside orpo" in notebook.run("find_stage(", "ORPOTrainer(\n")
        stage = (finished / "latest").resolve() / "variants" / "orpo-steps-40-beta-0.1"
        notebook.begin(notebook.sources[notebook.id_with(TRAINS)])
        wait_for_steps(stage, 3)
        notebook.interrupt()
        _, error = notebook.finish()
        assert len(error) == 1, error
        at = re.fullmatch(r"orpo-steps-40-beta-0.1: stopped at step (\d+) of 40\. Run this cell again: .*", error[0])
        assert steps(stage) == list(range(1, int(at[1]) + 1))
        assert f"stopped at step {at[1]} of 40; its model is in" in notebook.run("model = load_trained")
    with Cells("04", finished) as notebook:
        notebook.run("open_run(profile)", "print(train)")
        notebook.execute(other)
        said = notebook.run("find_stage(", TRAINS)
        assert f"resuming from step {at[1]} of a stopped run" in said and "step 40/40" in said
        assert steps(stage) == list(range(1, 41))
        notebook.run("model = load_trained", "orpo = evaluate(")
        table = notebook.execute(
            "from helpers.evaluation import comparison_table\nprint(comparison_table("
            "{'sft': sft, 'orpo': run.require('orpo'), stage.name: orpo}))"
        )[0]
        assert "steps is SFT 4, ORPO 4, ORPO steps 40 beta 0.1 40." in table and "beta is ORPO 1.0" in table
        assert "Not recorded" in notebook.run("methods, baselines =", "record_comparison(")
    after = contents(finished)
    assert {path.name for path in before if path != "latest" and before[path] != after.get(path)} == {"results.json"}
    kept = json.loads(after[(finished / "latest").resolve() / "results.json"])
    for part in ("methods", "orpo_minus_sft", "generations"):
        assert kept[part] == json.loads(before[(finished / "latest").resolve() / "results.json"])[part]


def steps(stage) -> list[int]:
    return [json.loads(line)["step"] for line in (stage / "log.jsonl").read_text().splitlines()]


def wait_for_steps(stage, number: int) -> None:
    deadline = time.monotonic() + 120
    while not (stage / "log.jsonl").is_file() or len(steps(stage)) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)
