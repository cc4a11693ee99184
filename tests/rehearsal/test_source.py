"""NXD_SRC takes neuronx_distributed from its source; where that fails it says why, and takes no stand-in instead."""

import os
import subprocess
import sys

import pytest

from helpers.files import REPOSITORY
from tests.rehearsal.launch import ONE_PROCESS

SAYS_WHERE = "from tests.rehearsal import launch; print(launch.prepare()['neuronx_distributed'])"


def start(folder) -> subprocess.CompletedProcess:
    """A rehearsal with the source in this folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS} | {"NXD_SRC": str(folder)}
    command = [sys.executable, "-c", SAYS_WHERE]
    return subprocess.run(command, cwd=REPOSITORY, env=kept, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no neuronx_distributed/__init__.py: name the folder above it"),
        ("import neuronxcc.nki", "its neuronx_distributed can't be imported (No module named 'neuronxcc.nki')"),
    ],
    ids=["no package", "what it needs is missing"],
)
def test_a_source_that_cannot_be_used_is_one_line(tmp_path, content, says):
    if content:
        (tmp_path / "neuronx_distributed").mkdir()
        (tmp_path / "neuronx_distributed" / "__init__.py").write_text(content)
    done = start(tmp_path)
    assert done.returncode == 1 and not done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"NXD_SRC={tmp_path}") and says in last
    assert "Traceback" not in done.stderr
