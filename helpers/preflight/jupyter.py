"""What surrounds a notebook: whose kernel runs it, and whether the JupyterLab around it can draw its widgets."""

import json
import os
from pathlib import Path

import psutil

from helpers.files import REPOSITORY
from helpers.preflight.check import Check
from helpers.preflight.packages import installed

FRONT_END = Path("@jupyter-widgets") / "jupyterlab-manager" / "package.json"
FRONT_END_MAJOR = "5"  # of ipywidgets 8; ipywidgets 7 came with 3
SHARED = [Path("/usr/local/share/jupyter"), Path("/usr/share/jupyter")]


def kernel_check(folder: Path | None = None) -> Check:
    """The kernel runs the code of the clone that the notebook lies in. `folder`: where the notebook runs."""
    folder = (folder or Path.cwd()).resolve()
    clones = (place for place in (folder, *folder.parents) if (place / "notebooks" / "00_preflight.ipynb").is_file())
    clone = next(clones, REPOSITORY)
    own = clone.samefile(REPOSITORY)
    found = "runs the code of this clone" if own else f"runs the code of another clone, {REPOSITORY}"
    return Check("kernel", own, found, f"run `make setup` in {clone} and restart the kernel")


def widgets_check(server: Path | None = None) -> Check:
    """JupyterLab's half of ipywidgets fits the kernel's. `server`: the environment of the JupyterLab, else found."""
    here = f"ipywidgets {installed('ipywidgets')}"
    server = server or jupyter_around()
    if server is None:
        return Check("widgets", True, f"{here}; this was not started by a Jupyter server")
    version = front_end(server)
    found = f"{here}, JupyterLab's half {version or 'missing'}"
    fix = f"install {here.replace(' ', '==')} into the environment of that JupyterLab ({server}) and reload the page"
    return Check("widgets", (version or "").split(".")[0] == FRONT_END_MAJOR, found, fix)


def jupyter_around() -> Path | None:
    """The environment of the Jupyter server that started this kernel; None where none did (a terminal, VS Code)."""
    try:
        command = psutil.Process(int(os.environ["JPY_PARENT_PID"])).cmdline()
    except (KeyError, ValueError, psutil.Error):
        return None
    if not any("jupyter" in part for part in command) or not Path(command[0]).is_absolute():
        return None
    return Path(command[0]).parents[1]


def front_end(server: Path) -> str | None:
    """The version of the widgets' extension that a JupyterLab of this environment loads; None if it has none."""
    user = Path(os.environ.get("JUPYTER_DATA_DIR", Path.home() / ".local" / "share" / "jupyter"))
    for data in (server / "share" / "jupyter", user, *SHARED):
        if (data / "labextensions" / FRONT_END).is_file():
            return json.loads((data / "labextensions" / FRONT_END).read_text(encoding="utf-8"))["version"]
    return None
