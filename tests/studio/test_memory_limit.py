"""A run in a container with little memory: it passes where it fits, and is refused before it starts where not."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.files import REPOSITORY
from helpers.runs import limits

GIB = 2**30


@contextlib.contextmanager
def limited_to(size: int):
    """A control group with this memory limit; yields its list of processes. Skips where this user may not make one."""
    groups = limits._groups("memory", limits.ROOT, limits.MEMBERSHIP)
    name = "memory.max" if limits._is_v2(limits.ROOT) else "memory.limit_in_bytes"
    folder = groups[0] / f"workshop-{os.getpid()}" if groups else Path("/nowhere")
    try:
        folder.mkdir()
        (folder / name).write_text(str(size))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


def run_in(processes: Path, runs: Path, notebooks: str, profile: str = "smoke") -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/run_workshop.py", "--profile", profile, "--runs-dir", str(runs)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKSHOP_RUN")}
    return subprocess.run(
        [*command, "--notebooks", notebooks],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: processes.write_text(str(os.getpid())),
    )


@pytest.mark.slow
def test_the_hour_up_to_the_comparison_passes_under_a_limit_of_3_gib(tmp_path):
    """A Studio space of 4 GiB leaves 3 to its kernels: data, SFT, ORPO and their evaluation."""
    with limited_to(3 * GIB) as processes:
        done = run_in(processes, tmp_path, "00 01 02 03 04")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.findall(r"^(\d\d)_\w+ +done in", done.stdout, re.MULTILINE) == ["00", "01", "02", "03", "04"]
    assert float(re.search(r"peak memory ([\d.]+) GiB", done.stdout)[1]) < 2


@pytest.mark.parametrize(("profile", "limit", "needed"), [("smoke", 1, "2"), ("laptop", 2, "2.5")])
def test_where_it_does_not_fit_it_is_said_before_anything_starts(tmp_path, profile, limit, needed):
    with limited_to(limit * GIB) as processes:
        done = run_in(processes, tmp_path, "00", profile)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"left under the container's limit, {needed} needed" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
