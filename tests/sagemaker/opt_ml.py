"""The layout of /opt/ml somewhere else, and the entry point started on it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from helpers.files import REPOSITORY
from helpers.sagemaker.instance import lay_out

PAIRS = [
    {"prompt": f"What does call {i} do?", "chosen": f"It lists {i} queues.", "rejected": f"It deletes topic {i}."}
    for i in range(16)
]
SETTINGS = {"method": "orpo", "model": "smoke", "max_length": 128, "bf16": False, "backend": "cpu", "save_steps": 2}


def make(base: Path, settings: dict, hosts=("algo-1",), host="algo-1") -> Path:
    """What SageMaker lays out before it starts a container, with sixteen pairs as its data."""
    lay_out(base, SETTINGS | settings, hosts, host)
    pairs = base / "input/data/train/train.jsonl"
    pairs.parent.mkdir()
    pairs.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return base


def start(base: Path, **environment) -> subprocess.Popen:
    """The entry point as the container starts it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "WORKSHOP_"))}
    kept |= {"SAGEMAKER_BASE_DIR": str(base), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.sagemaker_entry"],
        cwd=REPOSITORY,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def records(said: str) -> list[dict]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])
