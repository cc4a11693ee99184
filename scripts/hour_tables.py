"""The table of the recorded hour (docs/results/hour.json, by `python -m tests.studio.hour`)."""

from helpers.evaluation import markdown_table
from helpers.runs import clock, provenance

RESULT = "hour.json"
COMMAND = "python -m tests.studio.hour"
NOTEBOOKS = ["00_preflight", "01_domain_data", "02_sft_baseline", "03_odds_ratio", "04_orpo"]
GIB = 2**30


def to_first_cell(record: dict) -> float:
    """Seconds from the clone until the first cell was executed."""
    first = record["notebooks"][NOTEBOOKS[0]]
    return sum(record["steps"].values()) + first["opened"] + first["first_cell"]


def in_all(record: dict) -> float:
    """Seconds from the clone until the last notebook was done."""
    notebooks = (notebook["opened"] + notebook["seconds"] for notebook in record["notebooks"].values())
    return sum(record["steps"].values()) + sum(notebooks)


def hour_table(record: dict) -> str:
    """Markdown: a line for each step of the newcomer, with the longest wait in it."""
    rows = [[step, clock(seconds), "", ""] for step, seconds in record["steps"].items()]
    rows.append(["in all, to the first executed cell", clock(to_first_cell(record)), "", ""])
    for name, notebook in record["notebooks"].items():
        waits = [f"{notebook[kind]:.0f} s" for kind in ("longest_wait", "longest_wait_behind_a_bar")]
        rows.append([f"`{name}`", clock(notebook["seconds"]), *waits])
    rows.append(["in all, to the table of SFT against ORPO", clock(in_all(record)), "", ""])
    head = ["step", "minutes:seconds", "longest time without any change", "with nothing new but a progress bar"]
    return f"{markdown_table(head, rows)}\n\n*{provenance(COMMAND, [record], 'profile ' + record['profile'])}.*"
