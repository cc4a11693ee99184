"""How long the notebooks take, from what is recorded."""

from helpers.files import REPOSITORY, read_json
from helpers.runs.machine import clock, machine_text


def recorded_times(profile: str = "laptop") -> str:
    """How long each notebook took in the newest recorded run of a profile, and on which machine."""
    recorded = [read_json(path) for path in (REPOSITORY / "docs" / "results").glob(f"{profile}-*.json")]
    timed = [run for run in recorded if run.get("notebook_seconds")]
    if not timed:
        return f"no run of the {profile} profile is recorded"
    run = max(timed, key=lambda run: run["date"])
    head = f"recorded, {profile} profile, {machine_text(run['machine'])}, {run['date'][:10]}:"
    return "\n".join([head, *(f"{clock(seconds):>7}  {name}" for name, seconds in run["notebook_seconds"].items())])
