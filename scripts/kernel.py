"""The kernel "ORPO workshop": visible in every JupyterLab, notebook server and VS Code of this user.

.venv/bin/python scripts/kernel.py register    # take the name; says so if another clone had it
.venv/bin/python scripts/kernel.py offer       # take it only where no other clone has it
.venv/bin/python scripts/kernel.py remove      # give it up, if it is this clone's
"""

import json
import os
import shutil
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

NAME, DISPLAY_NAME = "orpo-workshop", "ORPO workshop"
UNSET = ("PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE")  # what an image may have set


def main(action: str) -> int:
    """Do what the command line asks for; 0, or 1 where the folder can't be written."""
    folder = Path(jupyter_data_dir()) / "kernels" / NAME
    try:
        if action == "remove":
            print(remove(folder), end="")
        else:
            write(Path(sys.prefix) / "share" / "jupyter" / "kernels" / NAME)  # for this environment's own JupyterLab
            print(register(folder, take=action == "register"), end="")
    except OSError as error:
        print(f"kernel: {folder} can't be written ({error.strerror}): set JUPYTER_DATA_DIR", file=sys.stderr)
        return 0 if action == "offer" else 1  # `make run` and `make lab` do without it
    return 0


def register(folder: Path, take: bool) -> str:
    """Write the kernel into the user's `folder`, unless another clone that still works has it and `take` is False."""
    other = interpreter(folder)
    elsewhere = other is not None and other != Path(sys.executable) and other.exists()
    if elsewhere and not take:
        return f"The kernel “{DISPLAY_NAME}” stays with {clone_of(other)}: `make setup` takes it for this clone.\n"
    write(folder)
    if not take:
        return ""
    said = f"The kernel “{DISPLAY_NAME}” is registered in {folder}.\n"
    if elsewhere:
        said += f"It belonged to {clone_of(other)}: `make setup` there takes it back.\n"
    return said


def write(folder: Path) -> None:
    """Write the kernel of this interpreter into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".kernel.json.{os.getpid()}"
    temporary.write_text(
        json.dumps(spec_of(Path(sys.executable)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    os.replace(temporary, folder / "kernel.json")


def spec_of(python: Path) -> dict:
    """A kernel of an interpreter, with nothing of the server's PYTHONPATH: an image's older packages would win.

    Nor does PYTHONOPTIMIZE take away the notebooks' checks, nor PYTHONDONTWRITEBYTECODE, which many images set, make
    every kernel compile its libraries anew (24 seconds in place of 9 until torch is imported). GOMP_SPINCOUNT: as in
    the Makefile. Its extension says of a cell that is run too early which cell comes first, and shows speaker notes.
    """
    return {
        "argv": [
            str(python),
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--IPKernelApp.extensions=helpers.show.cell_order",
        ],
        "display_name": DISPLAY_NAME,
        "language": "python",
        "metadata": {"debugger": True},
        "env": dict.fromkeys(UNSET, "") | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000")},
    }


def interpreter(folder: Path) -> Path | None:
    """The Python that the kernel in `folder` starts; None where there is no kernel, or none that can be read."""
    try:
        return Path(json.loads((folder / "kernel.json").read_text(encoding="utf-8"))["argv"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def clone_of(python: Path) -> Path:
    """The clone that an interpreter <clone>/.venv/bin/python belongs to."""
    return python.parents[2]


def remove(folder: Path) -> str:
    """Remove the user's kernel if it starts this interpreter or one that is gone."""
    python = interpreter(folder)
    if python is None:
        return ""
    if python != Path(sys.executable) and python.exists():
        return f"The kernel “{DISPLAY_NAME}” stays: it belongs to {clone_of(python)}.\n"
    shutil.rmtree(folder)
    return f"The kernel “{DISPLAY_NAME}” is removed from {folder}.\n"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("register", "offer", "remove"):
        sys.exit("usage: kernel.py register|offer|remove")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal may know ASCII only
    sys.exit(main(sys.argv[1]))
