"""The hour as a newcomer in a small Studio space has it: from the clone to the table of SFT against ORPO, timed.

python -m tests.studio.hour [--profile laptop] [--memory 3]

Clones into a home of 5 GB, sets up, starts a JupyterLab of Studio's version and runs the notebooks of the hour from top
to bottom in Chromium. JupyterLab and its kernels share a control group with a memory limit (GiB). Recorded in
docs/results/hour.json: seconds of each step, the longest time in which a notebook showed nothing new, memory and disk.
Needs root on Linux and Chromium.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.files import REPOSITORY, write_json
from helpers.runs import here_and_now, results_folder
from scripts.hour_tables import GIB, NOTEBOOKS, RESULT, hour_table
from tests.studio.attendee import Attendee, chromium, jupyterlab, make_home, studio_environment, used
from tests.studio.test_memory_limit import limited_to


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--memory", type=float, default=3, help="GiB for JupyterLab and its kernels")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        record = here_and_now() | {"profile": options.profile, "memory_limit": int(options.memory * GIB)}
        record |= visit(Path(place), options.profile, record["memory_limit"])
    if options.profile != "smoke":
        write_json(results_folder() / RESULT, record)
    print(hour_table(record))


def visit(place: Path, profile: str, limit: int) -> dict:
    """Seconds of each step, and what memory and disk were used, of one newcomer from the clone to the table."""
    studio = studio_environment(place / "conda")
    with make_home(place / "disk.img", place / "home") as obstacle:
        if obstacle:
            raise RuntimeError(f"no home of 5 GB can be made here: {obstacle}")
        attendee, started = Attendee(place / "home", studio), time.monotonic()
        attendee.clone_from(REPOSITORY)
        cloned = time.monotonic()
        attendee.run("make", "setup")
        ready = time.monotonic()
        steps = {"clone": cloned - started, "set-up": ready - cloned}
        with limited_to(limit) as group, watched_memory(group) as peak, jupyterlab(attendee, profile, group) as url:
            seen = run_notebooks(attendee, url, place)
        errors = {name: notebook["errors"] for name, notebook in seen.items() if notebook["errors"]}
        if errors:
            raise RuntimeError(f"notebooks failed: {errors}")
        disk = {".venv": used(attendee.clone / ".venv"), "home": used(attendee.home)}
        (run,) = (attendee.clone / "runs").glob(f"*-{profile}")
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {"steps": steps, "notebooks": seen, "peak_memory": max(peak), "disk": disk, "methods": results["methods"]}


def run_notebooks(attendee: Attendee, url: str, place: Path) -> dict:
    """What the browser saw of each notebook."""
    script = str(REPOSITORY / "tests" / "studio" / "watch.py")
    command = [str(attendee.python), script, url, chromium(), *(f"{name}.ipynb" for name in NOTEBOOKS)]
    done = subprocess.run(command, env=attendee.environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the browser stopped: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def watched_memory(processes: Path, every: float = 0.25) -> Iterator[list[int]]:
    """Samples of a group's anonymous memory in bytes: what can't be given back, unlike pages of files."""
    samples, end = [0], threading.Event()
    stat = processes.with_name("memory.stat")

    def watch() -> None:
        while not end.wait(every):
            values = dict(line.split() for line in stat.read_text().splitlines())
            samples.append(int(values.get("anon", values.get("total_rss", 0))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        end.set()
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
