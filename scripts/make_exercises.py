"""Execute notebooks/solutions/ and make notebooks/exercises/ from them: the same cells, each answer taken out.

python -m scripts.make_exercises        (make exercises)

A cell with an answer keeps two things in its metadata, under "exercise": `blank`, the code that stands in its place in
the exercises, and `wrong`, typical wrong answers. The tests run all of them: only the solution passes its check.
"""

import copy
import sys

import nbformat
from nbclient import NotebookClient

from helpers.files import REPOSITORY, write_text
from scripts.publish_notebooks import clear, is_progress_bar, shown

SOLUTIONS, EXERCISES = (REPOSITORY / "notebooks" / name for name in ("solutions", "exercises"))


def exercise_of(solution):
    """The notebook to be solved: blanks for answers, and no outputs."""
    notebook = copy.deepcopy(solution)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            clear(cell)
            if "exercise" in cell.metadata:
                cell.source = cell.metadata.pop("exercise")["blank"]
    return notebook


def text_of(notebook) -> str:
    """The file's text, in the form of the other notebooks."""
    return nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n"


def executed(solution):
    """The solution with the outputs of a run, as fit to be shown as those of the other notebooks: without bars."""
    notebook = copy.deepcopy(solution)
    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute(cwd=str(SOLUTIONS))
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code":
            cell.execution_count = None
            kept = [each for each in cell.outputs if each.get("name") != "stderr" and not is_progress_bar(each)]
            cell.outputs = [shown(each, f"cell {number}") for each in kept]
    notebook.metadata = solution.metadata
    return notebook


def main() -> None:
    EXERCISES.mkdir(exist_ok=True)
    for path in sorted(SOLUTIONS.glob("*.ipynb")):
        solution = executed(nbformat.read(path, as_version=4))
        write_text(path, text_of(solution))
        write_text(EXERCISES / path.name, text_of(exercise_of(solution)))
        sys.stdout.write(f"{path.name}: executed, and its exercises made\n")


if __name__ == "__main__":
    main()
