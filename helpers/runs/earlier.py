"""How long the notebooks took in earlier runs: what the time left of this one is estimated from."""

from helpers.files import read_json
from helpers.runs.folder import read_object, runs_folder
from helpers.runs.recorded import results_folder


def earlier_times(profile: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of each notebook of a profile, and of each of its cells where they were noted.

    The newest run of this machine wins, then what is recorded in docs/results/. A notebook that went on after a stop
    does not count: it took only the rest. Prints which damaged run is left out.
    """
    found = {}
    for path in sorted(results_folder().glob(f"{profile}-seed*.json")):
        record = read_json(path)
        cells = record.get("cell_seconds", {})
        found |= {name: (took, cells.get(name)) for name, took in record.get("notebook_seconds", {}).items()}
    for path in sorted(runs_folder().glob(f"*-{profile}/state.json")):
        try:
            done = read_object(path).get("done", {})
        except ValueError as error:
            print(f"{error}; its times are left out")
            continue
        found |= {name: (entry["seconds"], entry.get("cells")) for name, entry in done.items() if counts(entry)}
    seconds = {name: took for name, (took, _) in found.items()}
    return seconds, {name: cells for name, (_, cells) in found.items() if cells}


def counts(entry: dict) -> bool:
    """True for a notebook that was run from its beginning to its end, as a run's state tells it."""
    return "seconds" in entry and not entry.get("resumed")
