"""Every notebook: executed end to end with the smoke profile, and built the way CONTRIBUTING.md says."""

import ast
import json
import os
import re
import statistics
import subprocess
import sys

import nbformat
import pytest

from helpers.files import REPOSITORY
from scripts.publish_notebooks import LARGEST, UNFIT, WIDGET, outdated, shown

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
DEMO = REPOSITORY / "notebooks" / "demo.ipynb"
SECRETS = UNFIT["what looks like a secret"]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def names_in(code: str) -> tuple[set[str], set[str]]:
    """The names that a cell makes, and those that it reads."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    return tuple({node.id for node in nodes if isinstance(node.ctx, kind)} for kind in (ast.Store, ast.Load))


def tagged(notebook, tag: str) -> list[int]:
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("path", [*NOTEBOOKS, DEMO], ids=lambda path: path.stem)
class TestOutputs:
    def test_every_output_belongs_to_the_code_above_it(self, path):
        """After an edit: make run and make notebooks, or python -m scripts.publish_notebooks --drop-outdated."""
        assert not outdated(read(path))

    def test_outputs_are_small_and_fit_to_be_shown_without_a_kernel(self, path):
        assert path.stat().st_size < LARGEST
        for number, cell in enumerate(code_cells(read(path))):
            for output in cell.outputs:
                shown(output, f"code cell {number}")  # raises for an error, a path, a secret, a picture without text
                assert WIDGET not in output.get("data", {}) and "widgets" not in read(path).metadata

    def test_outputs_say_from_which_machine_and_date_they_are(self, path):
        code = code_cells(read(path))
        if any(cell.outputs for cell in code):
            assert re.search(r"recorded on .+, \d{4}-\d\d-\d\d", code[0].outputs[-1].data["text/plain"])


def test_the_readme_says_which_notebooks_show_no_outputs():
    without = {path.stem[:2] for path in NOTEBOOKS if not any(cell.outputs for cell in code_cells(read(path)))}
    said = re.search(r"All but (.*?) show recorded outputs", (REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert set(re.findall(r"\d\d", said[1] if said else "")) == without


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestAsWritten:
    def test_is_valid_and_not_yet_executed(self, path):
        notebook = read(path)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "orpo-workshop"
        assert {cell.execution_count for cell in code_cells(notebook)} == {None}

    def test_a_cell_run_again_finds_the_names_that_it_found_before(self, path):
        """A later cell must not take a name that an earlier one reads; but for what is loaded anew under its name."""
        names = [names_in(cell.source) for cell in code_cells(read(path))]
        for place, (made, got) in enumerate(names):
            known = got - made - {"model", "tokenizer"}
            again = known & set().union(*(later for later, _ in names[place + 1 :]))
            earlier = set().union(*(before for before, _ in names[:place]))
            assert not again & earlier, f"code cell {place}"

    def test_opens_with_goal_time_and_prerequisites_and_ends_with_recap_and_exercise(self, path):
        cells = read(path).cells
        assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
        for heading in ("**Goal**", "**Time**", "**Prerequisites**"):
            assert heading in cells[0].source
        assert cells[-1].cell_type == "markdown"
        assert "## Recap" in cells[-1].source and re.search(r"^## Exercises?$", cells[-1].source, re.MULTILINE)

    def test_links_to_the_exercises_that_are_checked_and_says_which_are_not(self, path):
        end = read(path).cells[-1].source
        for folder in ("exercises", "solutions"):
            assert f"({folder}/{path.name})" in end and (path.parent / folder / path.name).is_file()
        assert re.search(r"^Open-ended, .*nothing (else )?checks your answer", end, re.MULTILINE)
        if "train_stage(" in path.read_text(encoding="utf-8") or "comparison.dpo()" in end:
            assert "minutes" in end and "`smoke`" in end, "how long what trains again takes"

    def test_has_one_parameters_cell_and_ends_with_a_check(self, path):
        notebook = read(path)
        code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        assert tagged(notebook, "kernel") == [code[0]] and tagged(notebook, "parameters") == [code[1]]
        assert tagged(notebook, "check") == [code[-1]]
        check = notebook.cells[code[-1]].source
        assert "assert " in check and "print(" in check

    def test_one_idea_a_cell(self, path):
        lengths = [len(cell.source.splitlines()) for cell in code_cells(read(path))]
        assert statistics.median(lengths) <= 6 and max(lengths) <= 14

    def test_names_no_machine_and_no_secret(self, path):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"[\"' (](/(home|root|Users|tmp)/|[A-Z]:\\\\)", text)
        assert not SECRETS.search(text)


def test_no_cell_of_more_than_two_lines_is_copied_between_notebooks():
    """The cells of the kernel and of parameters recur on purpose; logic lives once, in helpers/."""
    seen = {}
    for path in NOTEBOOKS:
        for cell in code_cells(read(path)):
            if {"kernel", "parameters"} & set(cell.metadata.get("tags", [])):
                continue
            lines = [line for line in cell.source.splitlines() if line and not line.startswith(("from ", "import "))]
            if len(lines) > 4:
                assert seen.setdefault("\n".join(lines), path) == path, (path.stem, cell.source)


# ── executed ────────────────────────────────────────────────────────────────────────────────────────────────

METHOD_KEYS = {
    "n",
    "chosen_logp",
    "rejected_logp",
    "preference_accuracy",
    "preference_accuracy_ci95",
    "log_odds_difference",
    "chrf",
    "peak_memory_bytes",
    "steps",
    "seed",
}


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory):
    """One `make run PROFILE=smoke`: its folder and what it said."""
    runs = tmp_path_factory.mktemp("runs")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKSHOP_RUN")}
    process = subprocess.run(
        [sys.executable, "scripts/run_workshop.py", "--profile", "smoke", "--runs-dir", str(runs)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return (runs / "latest").resolve(), process.stdout


@pytest.mark.notebooks
class TestExecuted:
    def test_every_notebook_ran_and_the_terminal_shows_the_table(self, smoke_run):
        folder, said = smoke_run
        assert [path.name for path in sorted((folder / "notebooks").glob("*.ipynb"))] == [p.name for p in NOTEBOOKS]
        for row in ("preference accuracy", "chosen log-prob", "rejected log-prob", "chrF of answers"):
            assert re.search(rf"^\| {row} +\|", said, re.MULTILINE), row
        assert "report:" in said

    def test_every_code_cell_ran_and_most_print_a_check(self, smoke_run):
        for path in sorted((smoke_run[0] / "notebooks").glob("*.ipynb")):
            cells = code_cells(read(path))
            assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), path.stem
            silent = [cell.source for cell in cells if not cell.outputs]
            assert len(silent) <= len(cells) / 4, (path.stem, silent)

    def test_every_picture_has_a_text_for_those_who_cannot_see_it(self, smoke_run):
        pictures = 0
        for path in (smoke_run[0] / "notebooks").glob("*.ipynb"):
            for cell in code_cells(read(path)):
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}):
                        pictures += 1
                        assert len(output.metadata["image/png"]["alt"]) > 20, (path.stem, cell.source)
        assert pictures >= 5

    def test_results_keep_the_contract(self, smoke_run):
        results = json.loads((smoke_run[0] / "results.json").read_text(encoding="utf-8"))
        assert {"profile", "date", "machine", "versions", "model", "data", "methods"} <= set(results)
        assert {"cpu", "cores", "memory", "accelerator"} <= set(results["machine"])
        assert results["data"]["train_pairs"] > 0 and results["data"]["heldout_pairs"] > 0
        for method in ("base", "sft", "orpo"):
            result = results["methods"][method]
            assert set(result) >= METHOD_KEYS
            low, high = result["preference_accuracy_ci95"]
            assert 0 <= low <= result["preference_accuracy"] <= high <= 1
            assert result["chosen_logp"] < 0 and result["peak_memory_bytes"] > 100 * 2**20
        for method in ("sft", "orpo"):
            assert results["methods"][method]["train_seconds"] > 0
            assert results["methods"][method]["train_tokens_per_second"] > 0
            assert results["methods"][method]["steps"] == results["methods"]["sft"]["steps"]

    def test_dpo_and_rlhf_are_among_the_methods(self, smoke_run):
        results = json.loads((smoke_run[0] / "results.json").read_text(encoding="utf-8"))
        assert list(results["techniques"]["stages"]) == ["sft", "dpo", "reward", "rlhf", "orpo"]
        for method in ("dpo", "rlhf"):
            assert set(results["methods"][method]) >= METHOD_KEYS
            assert results["methods"][method]["pairs"] == results["techniques"]["budget"]["pairs"]

    def test_results_agree_with_the_scores_of_each_pair(self, smoke_run):
        results = json.loads((smoke_run[0] / "results.json").read_text(encoding="utf-8"))
        for method, result in results["methods"].items():
            pairs = json.loads((smoke_run[0] / method / "heldout.json").read_text(encoding="utf-8"))
            wins = [c > r for c, r in zip(pairs["chosen_logp"], pairs["rejected_logp"], strict=True)]
            assert len(wins) == result["n"] and sum(wins) / len(wins) == pytest.approx(result["preference_accuracy"])
            assert statistics.mean(pairs["chosen_logp"]) == pytest.approx(result["chosen_logp"], abs=1e-5)

    def test_nothing_that_was_written_names_a_folder_of_this_machine(self, smoke_run):
        home = str(REPOSITORY)
        for path in [smoke_run[0] / "results.json", *(smoke_run[0] / "notebooks").glob("*.ipynb")]:
            text = path.read_text(encoding="utf-8")
            assert home not in text and os.path.expanduser("~") + "/" not in text, path.name
            assert not SECRETS.search(text)
