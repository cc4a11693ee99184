"""Two gloo processes train as one does at the same global batch: losses, gradients, metrics, evaluation, weights."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from helpers.training.base_model import smoke_model
from tests.training.two_processes import WAYS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "training" / "two_processes.py"


def start(output: Path, *launcher: str) -> dict:
    """What the first process wrote."""
    output.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(output)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((output / "rank0.json").read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    one = start(folder / "one")
    two = start(folder / "two", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    return folder, one, two, json.loads((folder / "two" / "rank1.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(both, way):
    folder, *sides = both
    one, two, second = (side[way] for side in sides)
    assert len(two["train"]) == len(one["train"]) > 2
    for ours, reference in zip(two["train"], one["train"], strict=True):
        if abs(reference["loss"] - math.log(2)) < 1e-4:  # at DPO's first step which answer is ahead is rounding
            ours, reference = ({**record, "rewards/accuracies": 0.0} for record in (ours, reference))
        assert ours == pytest.approx(reference, rel=1e-4, abs=1e-5)
        assert ours["loss"] == pytest.approx(reference["loss"], rel=0, abs=1e-5)
    assert two["eval"] == pytest.approx(one["eval"], rel=1e-5, abs=1e-5)
    assert second["eval"] == two["eval"]  # or early stopping would end one process alone
    (saved,) = (folder / "one" / way / "model").glob("*.safetensors")
    base = smoke_model(0).state_dict()
    theirs = load_file(folder / "two" / way / "model" / saved.name)
    for name, weight in load_file(saved).items():
        learned = weight - base.get(name, 0)
        assert (theirs[name] - weight).norm() <= 1e-3 * learned.norm(), name
