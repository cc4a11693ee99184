"""How long the notebooks take, from what is recorded."""

from helpers.runs.machine import clock
from helpers.runs.recorded import recorded_runs, when_recorded

TRAINS = {"02_sft_baseline": "sft", "04_orpo": "orpo"}  # what a notebook of the hour trains


def recorded_times(profile: str = "laptop") -> str:
    """How long each notebook took in the newest recorded run of a profile that was not stopped, and where.

    Runs on other pairs than the lesson's are left out: their rows are longer.
    """
    try:
        runs = [run for run in recorded_runs(profile) if all(in_one_go(run, name) for name in TRAINS)]
    except FileNotFoundError:
        runs = []
    if not runs:
        return f"no run of the {profile} profile is recorded"
    run = max(runs, key=lambda run: run["date"])
    head = f"{when_recorded(run)}, {profile} profile:"
    return "\n".join([head, *(f"{clock(seconds):>7}  {name}" for name, seconds in run["notebook_seconds"].items())])


def in_one_go(run: dict, notebook: str) -> bool:
    """Whether a notebook took at least as long as its training: one that goes on with a stopped training takes less."""
    training = run["methods"][TRAINS[notebook]]["train_seconds"] if notebook in TRAINS else 0
    return run.get("notebook_seconds", {}).get(notebook, -1) >= training
