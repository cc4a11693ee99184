"""Recorded results (docs/results/): where they are kept, how they are read, and where their numbers came from."""

import json
from pathlib import Path

from helpers.files import REPOSITORY
from helpers.runs.machine import machine_text


def results_folder() -> Path:
    """Where recorded results are kept."""
    return REPOSITORY / "docs" / "results"


def read_recorded(pattern: str, what: str, command: str) -> list[dict]:
    """The recorded files that match `pattern`, by seed; a FileNotFoundError says with which command to record them."""
    paths = sorted(results_folder().glob(pattern))
    if not paths:
        raise FileNotFoundError(f"no recorded {what}: {command}")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(records, key=lambda record: record.get("seed", 0))


def recorded_runs(profile: str) -> list[dict]:
    """The recorded runs of a profile, by seed; a FileNotFoundError says how to record one.

    Their parts know where they are from: `recorded_label` of a method's results, or of an answer, tells it.
    """
    command = "make run, then python scripts/record_results.py runs/latest"
    records = read_recorded(f"{profile}-seed*.json", f"run of {profile}", command)
    return [_labelled(record, when_recorded(record)) for record in records]


class RecordedDict(dict):
    """A part of a record, with its `label`."""


class RecordedText(str):
    """A text of a record, such as an answer, with its `label`."""


def when_recorded(record: dict) -> str:
    """On which machine and when."""
    return f"recorded on {machine_text(record['machine'])}, {record['date'][:10]}"


def recorded_label(*parts) -> str:
    """What `when_recorded` says of the record that all these parts belong to; "" where one belongs to none."""
    labels = {getattr(part, "label", "") for part in parts}
    return " and ".join(sorted(labels)) if all(labels) else ""


def _labelled(value, label: str):
    """The same values, whose dicts and texts have the label."""
    if isinstance(value, list):
        return [_labelled(each, label) for each in value]
    if isinstance(value, dict):
        value = RecordedDict((key, _labelled(each, label)) for key, each in value.items())
    elif isinstance(value, str):
        value = RecordedText(value)
    else:
        return value
    value.label = label
    return value


def provenance(source: str, records: list[dict], *notes: str, machine_note: str = "") -> str:
    """One line for under a table or figure: the source of the numbers, each machine with its days, then `notes`."""
    days = {}
    for record in records:
        days.setdefault(machine_text(record["machine"]), set()).add(record["date"][:10])
    where = [f"{machine}{machine_note} · {' to '.join(sorted(found))}" for machine, found in days.items()]
    return " · ".join([source, " and ".join(where), *notes])


def with_seeds(source: str, records: list[dict]) -> str:
    """The source of several records, with their seeds."""
    seeds = ", ".join(str(record["seed"]) for record in records)
    return f"{source}, {'seed' if len(records) == 1 else 'seeds'} {seeds}"


def provenance_of_runs(runs: list[dict]) -> str:
    """From which profile, seeds, machine and days recorded runs came."""
    pythons = " and ".join(sorted({run["machine"]["python"].rsplit(".", 1)[0] for run in runs}))
    source = with_seeds(f"profile {runs[0]['profile']}", runs)
    return provenance(source, runs, machine_note=f", Python {pythons}")
