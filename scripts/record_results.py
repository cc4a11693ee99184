"""Copy the numbers of finished runs into docs/results/, where the README's table and figures are made from.

python scripts/record_results.py runs/20260101-120000-laptop …      one file a run: <profile>-seed<n>.json
"""

import sys
from pathlib import Path

from helpers.files import read_lines, write_json
from helpers.runs import results_folder
from helpers.runs.folder import read_object

GENERATIONS_KEPT = 5


def record(run: Path) -> Path:
    """Write docs/results/<profile>-seed<n>.json for one finished run; raises ValueError for an unfinished one."""
    state, results = read_object(run / "state.json"), read_object(run / "results.json")
    if state.get("status") != "finished":
        raise ValueError(f"{run}: the run is {state.get('status', 'no run folder')}; finish it with make run")
    if missing := [name for name in ("profile", "seed", "methods") if name not in results]:
        raise ValueError(f"{run}/results.json has no {missing[0]}: run `make run FRESH=1` and record that")
    results["generations"] = results.get("generations", [])[:GENERATIONS_KEPT]
    results["monitor"] = {method: read_lines(run / method / "monitor.jsonl") for method in ("sft", "orpo")}
    results["notebook_seconds"] = {
        name: round(entry["seconds"], 1) for name, entry in state.get("done", {}).items() if "seconds" in entry
    }
    target = results_folder() / f"{results['profile']}-seed{results['seed']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, results)
    return target


if __name__ == "__main__":
    for folder in sys.argv[1:] or sys.exit(__doc__):
        try:
            print(f"docs/results/{record(Path(folder)).name}")
        except (ValueError, OSError) as error:
            sys.exit(f"record: {error}")
