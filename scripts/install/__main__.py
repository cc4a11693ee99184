"""Plan, say, check the disk, install, verify."""

import json
import sys
from pathlib import Path

from scripts.install.disk import plan
from scripts.install.pins import SetupError, environment, has, read_pins, verify
from scripts.install.tools import Installer, ignored_settings, pip
from scripts.install.torch_build import choose_torch


def main(requirements: Path) -> None:
    """Install `requirements` into this environment, and helpers/ itself; a SetupError says what is wrong."""
    pins = read_pins(requirements)
    if ignored := ignored_settings():
        print(f"Not used here, since packages belong into {environment()}: {', '.join(ignored)}")
    build, torch = choose_torch(pins.get("torch"))
    installer = Installer(own_cache=plan(requirements, build))
    if torch:
        installer.install(*torch)
    installer.install("-r", str(requirements))
    if "setuptools" in pins and Path("pyproject.toml").is_file():
        pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    verify(pins)
    set_up_lab()
    installer.tidy()


def set_up_lab() -> None:
    """JupyterLab of this environment asks nobody whether to show news, and wraps code: a projector cuts long lines."""
    if not has("jupyterlab"):
        return
    settings = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    chosen = {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/notebook-extension:tracker": {"codeCellConfig": {"lineNumbers": False, "lineWrap": True}},
    }
    settings.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m scripts.install REQUIREMENTS")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal may know ASCII only, and a folder's name more
    try:
        main(Path(sys.argv[1]))
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("\nsetup: stopped. Run the command again: it goes on from what it has.")
