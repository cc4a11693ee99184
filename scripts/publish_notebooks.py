"""Put the outputs of a run into notebooks/, so that they can be read where no kernel runs, as on GitHub.

python -m scripts.publish_notebooks runs/20260101-120000-laptop        `make notebooks` calls it for the latest run
python -m scripts.publish_notebooks --drop-outdated                    remove outputs whose cell was edited since

Each cell with outputs keeps a hash of its code, and the first says on which machine and when the run took place. Cells
have no execution counts: `[ ]` means that you have not run the cell yet.
"""

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat

from helpers.credentials import kind_of_credential
from helpers.files import REPOSITORY, read_json, write_text
from helpers.runs.machine import machine_text

FOLDER = REPOSITORY / "notebooks"
LARGEST = 2**20  # bytes of a notebook
WIDGET = "application/vnd.jupyter.widget-view+json"  # needs a kernel; its text stays
# AWS's key ids are upper case: in lower case "akia…" would be found in the base64 of many a picture
UNFIT = {
    "a folder of one machine": re.compile(r"[\"' (](/(home|root|Users|tmp)/|[A-Z]:\\\\)"),
    "what looks like a secret": re.compile(r"hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|(?i:aws_secret_access_key\s*=)"),
}


def publish(run: Path, folder: Path = FOLDER) -> list[Path]:
    """Copy the outputs of the notebooks that a run has done to those of the same name, and return these.

    Raises ValueError for a run that has done none, a notebook that was edited since, or outputs that can't be shown.
    """
    state, results = read_json(run / "state.json", {}), read_json(run / "results.json", {})
    if not state.get("done"):
        raise ValueError(f"{run} holds no notebook that was executed to its end: make run executes them")
    stamp = f"*Outputs recorded on {machine_text(results['machine'])}, {results['date'][:10]}, with "
    stamp += f"`PROFILE={results['profile']}` and seed {results['seed']}. Run a cell to replace its output by yours.*"
    texts = {}
    for name in sorted(state["done"]):
        executed, target = run / "notebooks" / f"{name}.ipynb", folder / f"{name}.ipynb"
        notebook = with_outputs(read(target), read(executed), stamp, target.name)
        text = nbformat.writes(notebook, indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) > LARGEST:
            raise ValueError(f"{target.name} would take {len(text) / 2**20:.1f} MB: show fewer or smaller figures")
        texts[target] = text
    for target, text in texts.items():  # once all of them can be shown
        write_text(target, text)
    return list(texts)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def with_outputs(notebook, executed, stamp: str, name: str):
    """The notebook with the outputs of its executed copy, cell by cell."""
    code, ran = ([cell for cell in cells if cell.cell_type == "code"] for cells in (notebook.cells, executed.cells))
    if [cell.source for cell in code] != [cell.source for cell in ran]:
        raise ValueError(f"{name}: its code was edited since the run: make run does it again, then make notebooks")
    first = True
    for number, (cell, done) in enumerate(zip(code, ran, strict=True), start=1):
        clear(cell)
        cell.outputs = [shown(output, f"{name}, code cell {number}") for output in done.outputs]
        if first:
            cell.outputs.append(nbformat.v4.new_output("display_data", {"text/markdown": stamp, "text/plain": stamp}))
            first = False
        if cell.outputs:
            cell.metadata["source_hash"] = source_hash(cell)
    return notebook


def shown(output, where: str):
    """An output as a page without a kernel can show it; a ValueError for an error, a path, a secret, no alt text."""
    if output.output_type == "error":
        raise ValueError(f"{where} ended with {output.ename}: {output.evalue}")
    data = output.get("data", {})
    data.pop(WIDGET, None)
    if "execution_count" in output:
        output.execution_count = None
    if "image/png" in data and not output.metadata.get("image/png", {}).get("alt"):
        raise ValueError(f"{where}: a picture has no alt text; show it with helpers.show.show")
    without_temporary_folder(output)
    for text in [output.get("text", ""), *(text for kind, text in data.items() if kind.startswith("text/"))]:
        for what, pattern in UNFIT.items():
            if found := pattern.search(text):
                raise ValueError(f"{where} shows {what} ({found[0].strip()[:12]}…): keep it out of the output")
        if kind := kind_of_credential(text):
            raise ValueError(f"{where} shows what looks like a secret ({kind}): keep it out of the output")
    return output


def is_progress_bar(output) -> bool:
    """True for tqdm's widget, whose text is `name:  33%|███   | …`."""
    return "%|" in output.get("data", {}).get("text/plain", "") and WIDGET in output.data


def without_temporary_folder(output) -> None:
    """Name the folder for temporary files by its variable: it is another one on another machine."""
    folder = f"{tempfile.gettempdir()}{os.sep}"
    if "text" in output:
        output.text = output.text.replace(folder, "$TMPDIR/")
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = text.replace(folder, "$TMPDIR/")


def clear(cell) -> None:
    """Take outputs, execution count and hash off a code cell."""
    cell.outputs, cell.execution_count = [], None
    cell.metadata.pop("source_hash", None)


def source_hash(cell) -> str:
    """Of a cell's code; the code that made the cell's outputs."""
    return hashlib.sha256(cell.source.encode()).hexdigest()[:12]


def outdated(notebook) -> list[int]:
    """Places of code cells whose outputs, if any, were made by other code."""
    code = [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    return [place for place, cell in code if cell.outputs and cell.metadata.get("source_hash") != source_hash(cell)]


def drop_outdated(folder: Path = FOLDER) -> None:
    """Remove the outputs of cells that were edited since."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook = read(path)
        for place in outdated(notebook):
            clear(notebook.cells[place])
            print(f"{path.name}, cell {place + 1}: its output is removed")
        write_text(path, nbformat.writes(notebook, indent=1, ensure_ascii=False) + "\n")


def main(arguments: list[str]) -> int:
    if arguments == ["--drop-outdated"]:
        drop_outdated()
        return 0
    try:
        for path in publish(Path(arguments[0])):
            print(f"notebooks/{path.name}: {path.stat().st_size / 1000:.0f} kB")
    except (OSError, ValueError) as error:
        print(f"make notebooks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or sys.exit(__doc__)))
