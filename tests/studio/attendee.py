"""An attendee's machine: a home of 5 GB, Studio's JupyterLab, and the system's browser."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest

STUDIO = ["jupyterlab==4.5.10", "ipywidgets==8.1.9"]  # of the image 4.4.1
GB = 10**9


def chromium() -> str:
    """The system's Chromium. Without one these tests are skipped, but not in CI, where .ci/run installs it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI") == "true":
        pytest.fail("no Chromium: .ci/run installs it")
    pytest.skip("no Chromium here (Debian and Ubuntu: apt-get install chromium)")


def studios_python() -> str:
    """Python 3.12, as in Studio, where this machine has one; else this one, with a warning that it is another."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.12*/bin/python"))
    for python in ["python3.12", *map(str, pyenv)]:
        try:
            said = subprocess.run(
                [python, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True
            )
        except OSError:
            continue
        if said.stdout.strip() == "12":
            return python
    here = ".".join(map(str, sys.version_info[:2]))
    warnings.warn(f"no Python 3.12 here: Studio's JupyterLab runs on Python {here}, not on Studio's", stacklevel=2)
    return sys.executable


class Attendee:
    """A home, a clone in it, and a JupyterLab that knows nothing of the clone."""

    def __init__(self, home: Path, studio: Path):
        self.home, self.python, self.clone = home, studio / "bin" / "python", home / "my café" / "orpo workshop"
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "PROFILE", "MAKEFLAGS", "MAKELEVEL")
        kept = {
            k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("WORKSHOP_", "JUPYTER_", "HF_"))
        }
        self.environment = kept | {"HOME": str(home), "HF_HUB_OFFLINE": "1"}

    def clone_from(self, repository: Path) -> None:
        """Clone, into a folder with a space and an accent in its path."""
        self.clone.parent.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", str(repository), str(self.clone)], check=True)

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.clone, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


def studio_environment(folder: Path) -> Path:
    """An environment with Studio's JupyterLab and widgets, and with Playwright; nothing of ours."""
    subprocess.run([studios_python(), "-m", "venv", str(folder)], check=True)
    uv = Path(sys.prefix) / "bin" / "uv"
    fast = [str(uv), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    pip = fast if uv.exists() else [str(folder / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*pip, *STUDIO, "playwright==1.65.2"], check=True)
    return folder


@contextlib.contextmanager
def make_home(image: Path, folder: Path):
    """A home of 5 GB at `folder`; yields why it is a plain folder and as large as the disk, "" where it is not."""
    obstacle = mount(image, folder)
    try:
        yield obstacle
    finally:
        if not obstacle:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            image.unlink()


def mount(image: Path, folder: Path) -> str:
    """Mount a new file system of 5 GB at `folder`, as a Studio space's home is; returns why not, "" if it is there."""
    folder.mkdir()
    if os.geteuid() != 0:
        return "only root may mount one"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is missing (Debian and Ubuntu: apt-get install e2fsprogs)"
    with image.open("wb") as file:
        file.truncate(5 * GB)
    for command in (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            image.unlink()
            return f"{command[0]} failed ({' '.join(done.stderr.split())})"
    return ""


@contextlib.contextmanager
def jupyterlab(attendee: Attendee, profile: str = "smoke", group: Path | None = None):
    """Studio's JupyterLab, opened on the clone as Studio opens it on the home; its address.

    group: the file of a control group that lists its processes, which JupyterLab and its kernels join.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(attendee.python), "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += ["--LabApp.expose_app_in_browser=True"]
    environment, url = attendee.environment | {"PROFILE": profile}, f"http://127.0.0.1:{port}"
    with (attendee.home / "jupyterlab.log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=attendee.clone,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: group and group.write_text(str(os.getpid())),
        )
        try:
            wait_for(url)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)


def wait_for(url: str) -> None:
    """Until the server answers."""
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{url}/api", timeout=5).close()
            return
        except OSError:
            time.sleep(1)


def used(folder: Path) -> int:
    """Bytes on the disk, hard links once."""
    said = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout
    return int(said.split()[0]) * 1024
