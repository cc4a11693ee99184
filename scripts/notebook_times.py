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
    runs = [run for run in runs if in_one_go(run, name)]
    text = recorded_text(runs, name, TRAINS.get(name)) if runs else "No run of this notebook is recorded."
    shown = shown_training(notebook)
    return f"{text} The training shown below took {shown}." if shown else text


def recorded_text(runs: list[dict], name: str, method: str | None) -> str:
    """What the recorded runs took, training and the rest apart where the notebook trains a method."""
    precision = [f", {run['methods'][method]['precision']}" if method else "" for run in runs]
    where = [machine_text(run["machine"]) + each for run, each in zip(runs, precision, strict=True)]
    begin = f"In the recorded runs ({' and '.join(dict.fromkeys(where))})"
    whole = [run["notebook_seconds"][name] for run in runs]
    if not method:
        return f"{begin} the cells took {span(whole)} (minutes:seconds)."
    training = [run["methods"][method]["train_seconds"] for run in runs]
    rest = [all_of_it - part for all_of_it, part in zip(whole, training, strict=True)]
    return f"{begin} training took {span(training)} (minutes:seconds), and the other cells {span(rest)}."


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
