"""Copy the numbers of finished runs into docs/results/, where the README's table and figures are made from.

python scripts/record_results.py runs/20260101-120000-laptop …      one file a run: <profile>-seed<n>.json

A run on other pairs than the lesson's has their name in the file's: laptop-support-seed0.json.
"""

import json
import re
import sys
from pathlib import Path

from helpers.data import BUILT_IN
from helpers.files import read_lines, write_json
from helpers.runs import results_folder
from helpers.runs.earlier import counts
from helpers.runs.folder import read_object

GENERATIONS_KEPT = 5


def record(run: Path) -> Path:
    """Write docs/results/<profile>[-<pairs>]-seed<n>.json of a finished run; ValueError for an unfinished one."""
    state, results = read_object(run / "state.json"), read_object(run / "results.json")
    if state.get("status") != "finished":
        raise ValueError(f"{run}: the run is {state.get('status', 'no run folder')}; finish it with make run")
    if missing := [name for name in ("profile", "seed", "methods") if name not in results]:
        raise ValueError(f"{run}/results.json has no {missing[0]}: run `make run FRESH=1` and record that")
    results["generations"] = results.get("generations", [])[:GENERATIONS_KEPT]
    results["monitor"] = {method: read_lines(run / method / "monitor.jsonl") for method in ("sft", "orpo")}
    results["losses"] = {method: losses_of(run / method / "log.jsonl") for method in ("sft", "orpo")}
    whole = {name: entry for name, entry in state.get("done", {}).items() if counts(entry)}
    results["notebook_seconds"] = {name: round(entry["seconds"], 1) for name, entry in whole.items()}
    results["cell_seconds"] = {name: entry["cells"] for name, entry in whole.items() if "cells" in entry}
    results = without_place(results)
    target = results_folder() / f"{results['profile']}{pairs_of(results)}-seed{results['seed']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, results)
    return target


def losses_of(log: Path) -> list[dict]:
    """Step and loss of each line of a training's log."""
    return [{"step": line["step"], "loss": line["loss"]} for line in read_lines(log) if "loss" in line]


def without_place(results: dict) -> dict:
    """The results with the name of the pairs wherever their place on this machine stands, in settings of stages too."""
    if not (place := results.get("data", {}).pop("load_from", None)):
        return results
    place, name = (json.dumps(text)[1:-1] for text in (place, results["data"]["source"]))
    return json.loads(json.dumps(results).replace(place, name))


def pairs_of(results: dict) -> str:
    """The name of the pairs for the file, "" for the lesson's own."""
    source = results.get("data", {}).get("source", BUILT_IN)
    return "" if source == BUILT_IN else "-" + re.sub(r"[^A-Za-z0-9]+", "-", Path(source).stem).strip("-").lower()


if __name__ == "__main__":
    for folder in sys.argv[1:] or sys.exit(__doc__):
        try:
            print(f"docs/results/{record(Path(folder)).name}")
        except (ValueError, OSError) as error:
            sys.exit(f"record: {error}")
