"""Execute notebooks/demo.ipynb, which shows a recorded run, and put its outputs into it. `make notebooks` calls it.

It trains nothing and takes less than a minute: its trainings are drawn again, and their last state stays.
"""

import copy
import os

import nbformat
from nbclient import NotebookClient

from helpers.files import write_text
from helpers.runs import recorded_runs
from helpers.runs.recorded import when_recorded
from scripts.publish_notebooks import FOLDER, read, with_outputs
from scripts.run_workshop import ThisPython, tidied

DEMO = FOLDER / "demo.ipynb"


def executed(notebook):
    """A copy of the notebook with the outputs of this Python's kernel."""
    notebook = copy.deepcopy(notebook)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False)
    client.create_kernel_manager().kernel_spec_manager = ThisPython()
    client.execute(cwd=str(FOLDER.parent), env=os.environ | {"WORKSHOP_BIG": "", "WORKSHOP_NOTES": ""})
    return tidied(notebook)


def publish() -> None:
    """Write the outputs into the notebook; a ValueError for one that can't be shown."""
    notebook = read(DEMO)
    stamp = f"*Outputs of a run that was {when_recorded(recorded_runs('laptop')[0])}, drawn again."
    stamp += " Run a cell to replace its output by yours.*"
    notebook = with_outputs(notebook, executed(notebook), stamp, DEMO.name)
    write_text(DEMO, nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n")


if __name__ == "__main__":
    publish()
    print(f"notebooks/{DEMO.name}: {DEMO.stat().st_size / 1000:.0f} kB")
