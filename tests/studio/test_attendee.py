"""The attendee: a JupyterLab of its own, of SageMaker Studio's versions, in a home of 5 GB; clone, set up, Run All.

Nothing of this checkout's environment is used there, but uv, which makes the foreign environment faster. The browser is
the system's Chromium. One set-up serves all tests of this file.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from helpers.files import REPOSITORY

pytestmark = pytest.mark.slow

STUDIO = ["jupyterlab==4.5.10", "ipywidgets==8.1.9"]  # of the image 4.4.1
CORE = ["00_preflight", "01_domain_data", "02_sft_baseline", "03_odds_ratio", "04_orpo"]
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
    """Python 3.12, as in Studio, where this machine has one; else this one."""
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

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.clone, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr


def mounted(image: Path, folder: Path) -> bool:
    """Mount a new file system of 5 GB at `folder`, as a Studio space's home is; False where this user may not."""
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    with image.open("wb") as file:
        file.truncate(5 * GB)
    commands = (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(folder)])
    return all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


@pytest.fixture(scope="module")
def attendee(tmp_path_factory):
    """The environment of Studio, a clone in a home of 5 GB, and `make setup` run there: what it said is in `.said`."""
    place = tmp_path_factory.mktemp("studio")
    chromium()
    studio, home = place / "conda", place / "home"
    subprocess.run([studios_python(), "-m", "venv", str(studio)], check=True)
    uv = Path(sys.prefix) / "bin" / "uv"
    pip = [str(uv), "pip", "install", "--quiet", "--python"] if uv.exists() else []
    command = [*pip, str(studio / "bin" / "python")] if pip else [str(studio / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*command, *STUDIO, "playwright==1.65.2"], check=True)
    small = mounted(place / "disk.img", home)
    try:
        attendee = Attendee(home, studio)
        attendee.small = small
        attendee.clone.parent.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(attendee.clone)], check=True)
        started = time.monotonic()
        attendee.said = attendee.run("make", "setup")
        attendee.seconds = time.monotonic() - started
        yield attendee
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(home)], check=True)
            (place / "disk.img").unlink()


def used(folder: Path) -> int:
    """Bytes on the disk, hard links once."""
    return (
        int(subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[0]) * 1024
    )


def test_set_up_says_what_it_takes_and_takes_no_more(attendee):
    """Said first; the environment at most 2.0 GB; on a home of 5 GB no copy of the downloads is left."""
    said = re.search(r"downloads up to ([\d.]+) GB .*installs ([\d.]+) GB", attendee.said)
    assert said and "ORPO workshop" in attendee.said
    print(f"make setup took {attendee.seconds:.0f} s; .venv {used(attendee.clone / '.venv') / GB:.2f} GB")
    assert used(attendee.clone / ".venv") <= min(2.0, float(said[2])) * GB
    if attendee.small:
        assert "deleted at the end" in attendee.said and not (attendee.clone / ".venv" / ".downloads").exists()
        assert used(attendee.home) - used(attendee.clone) < 0.1 * GB, "caches in the home"


def test_set_up_again_is_done_at_once_and_a_moved_clone_is_repaired(attendee):
    assert "Setting up" not in attendee.run("make", "setup")
    moved = attendee.clone.with_name("moved")
    attendee.clone.rename(moved)
    try:
        plan = subprocess.run(
            ["make", "-n", "setup"], cwd=moved, env=attendee.environment, capture_output=True, text=True
        )
        assert "setup.sh" in plan.stdout
    finally:
        moved.rename(attendee.clone)


@pytest.fixture
def jupyterlab(attendee):
    """Studio's JupyterLab, opened on the clone as Studio opens it on the home; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(attendee.python),
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--allow-root",
    ]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    log = (attendee.home / "jupyterlab.log").open("w")
    environment = attendee.environment | {"PROFILE": "smoke"}
    server = subprocess.Popen(
        command, cwd=attendee.clone, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/api", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
        log.close()


def test_the_core_notebooks_run_top_to_bottom_in_that_jupyterlab(attendee, jupyterlab):
    """The kernel is chosen by itself, no cell fails, widgets are drawn and follow, the console stays clean."""
    names = [f"{name}.ipynb" for name in CORE]
    command = [str(attendee.python), str(REPOSITORY / "tests" / "studio" / "browse.py"), jupyterlab, chromium(), *names]
    done = subprocess.run(command, env=attendee.environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    for name, notebook in seen["notebooks"].items():
        print(f"{name}: {notebook['seconds']} s")
        assert notebook["kernel"] == "ORPO workshop" and not notebook["errors"], (name, notebook)
        assert notebook["counts"] == list(range(1, len(notebook["counts"]) + 1)), name
    before, after = seen["notebooks"]["03_odds_ratio.ipynb"]["moved"]
    assert "odds ratio" in before and before != after
    assert re.search(r"odds ratio +([\d.]+)", before)[1] != re.search(r"odds ratio +([\d.]+)", after)[1]
    assert not seen["console"]


def test_everything_together_fits_a_home_of_5_gb(attendee):
    """After the notebooks: environment, model and caches. A laptop run adds two models of 0.54 GB and little else."""
    here, models = used(attendee.home), 2 * 135e6 * 4
    print(f"home: {here / GB:.2f} GB, with a laptop run's two models {(here + models) / GB:.2f}")
    assert here + models <= 4.5 * GB


def test_with_the_images_own_kernel_the_first_cell_says_which_to_choose(attendee):
    cells = json.loads((attendee.clone / "notebooks" / "00_preflight.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([attendee.python, "-c", source], env=attendee.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "ORPO workshop" in done.stderr and len(done.stderr.splitlines()) == 1


def test_make_clean_takes_the_kernel_and_the_environment_and_leaves_the_runs(attendee):
    kernel = attendee.home / ".local" / "share" / "jupyter" / "kernels" / "orpo-workshop"
    runs = list((attendee.clone / "runs").iterdir())
    assert kernel.exists() and runs
    said = attendee.run("make", "clean")
    assert "runs/ is kept" in said and not kernel.exists() and not (attendee.clone / ".venv").exists()
    assert list((attendee.clone / "runs").iterdir()) == runs
