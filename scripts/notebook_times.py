"""How long a notebook of the hour takes, told in its first cell: from docs/results/ and from the outputs that it shows.

`make figures` writes the lines, so that text, table and outputs can't tell different times.
"""

import re

import nbformat

from helpers.files import REPOSITORY, write_text
from helpers.preflight.times import TRAINS, in_one_go
from helpers.runs import clock
from helpers.runs.machine import machine_text
from scripts.pages import filled

TIMED = ("01_domain_data", *TRAINS)
GONE = re.compile(r"step (\d+)/\1  (\d+:\d\d) gone")  # the last line of a training


def times_text(name: str, runs: list[dict], notebook) -> str:
    """What the recorded runs took, and what the training took that the notebook shows (minutes:seconds)."""
    runs, method = [run for run in runs if in_one_go(run, name)], TRAINS.get(name)
    where = f"On the machine of the recorded runs ({machine_text(runs[0]['machine'])}"
    whole = [run["notebook_seconds"][name] for run in runs]
    if method is None:
        return f"{where}) the cells took {span(whole)} (minutes:seconds)."
    training = [run["methods"][method]["train_seconds"] for run in runs]
    rest = [all_of_it - part for all_of_it, part in zip(whole, training, strict=True)]
    where += f", {runs[0]['methods'][method]['precision']})"
    text = f"{where} training took {span(training)} (minutes:seconds), and the other cells {span(rest)}."
    shown = shown_training(notebook)
    return f"{text} The training shown below took {shown}." if shown else text


def span(seconds: list[float]) -> str:
    """The least and the most, as minutes:seconds."""
    return " to ".join(dict.fromkeys((clock(min(seconds)), clock(max(seconds)))))


def shown_training(notebook) -> str:
    """How long the training took that the outputs show; "" where they show none."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = GONE.findall("".join(output.get("text", "") for output in outputs))
    return found[-1][1] if found else ""


def fill_times(runs: list[dict]) -> None:
    """Write the lines into the notebooks."""
    for name in TIMED:
        path = REPOSITORY / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        first = notebook.cells[0]
        first.source = filled(first.source, {"times": times_text(name, runs, notebook)})
        write_text(path, nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n")
