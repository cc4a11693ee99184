"""Training on the CPU where torch_xla is installed: transformers and accelerate would take XLA's device."""

import json
import math
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from helpers.files import REPOSITORY
from helpers.neuron import run
from tests.rehearsal.launch import ONE_PROCESS

# Two steps see two batches. ORPO's and SFT's loss is lower in the second; DPO's is log 2 at first, whatever it sees.
SHORT = ("--model", "smoke", "--max_steps", "2", "--max_length", "128", "--data", "aws-api", "--pairs", "16")
TOO_LATE = "import runpy, transformers; runpy.run_path('scripts/train.py', run_name='__main__')"


def start(folder, *arguments: str, program=("scripts/train.py",), **environment: str) -> subprocess.CompletedProcess:
    """scripts/train.py in a process without the stand-ins."""
    command = [sys.executable, *program, "--output_dir", str(folder), *arguments, *SHORT]
    kept = {name: value for name, value in os.environ.items() if name not in {*ONE_PROCESS, "WORKSHOP_BACKEND"}}
    environment = {"HF_HUB_OFFLINE": "1", "PJRT_DEVICE": "CPU"} | environment
    return subprocess.run(command, cwd=REPOSITORY, env=kept | environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("method", "how"), [("orpo", "variable"), ("sft", "argument"), ("dpo", "variable"), ("orpo", "nothing")]
)
def test_the_cpu_trains_when_it_was_asked_for_and_where_torch_xla_is_all_there_is(method, how, tmp_path):
    options = ("--method", method, *(("--backend", "cpu") if how == "argument" else ()))
    environment = {"WORKSHOP_BACKEND": "cpu"} if how == "variable" else {}
    done = start(tmp_path, *options, "--lora_rank", "4", **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Backend cpu: " in done.stdout
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [record["step"] for record in records] == [1, 2]
    first, second = (record["loss"] for record in records)
    assert second < first if method != "dpo" else first == pytest.approx(math.log(2), abs=1e-3)
    adapter = load_file(tmp_path / method / "model" / "adapter_model.safetensors")
    assert all(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)  # 0 before training


def test_where_it_is_too_late_for_the_cpu_that_is_one_line_with_what_works(tmp_path):
    done = start(tmp_path, "--method", "orpo", program=("-c", TOO_LATE), WORKSHOP_BACKEND="cpu")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train.py: cpu: transformers was imported where torch_xla is") and "make setup" in last
    assert not list(tmp_path.iterdir())


NOTEBOOK = """
from helpers.training.profiles import get_profile
from helpers.runs.folder import open_run
from helpers.runs.machine import hide_xla
hide_xla()
run = open_run(get_profile("smoke"))

from helpers.backends import read_machine
from helpers.training.base_model import SMOKE, load_model, load_tokenizer
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.data.load import load_preferences
args = ORPOConfig(output_dir=str(run.path / "out"), use_cpu=True, bf16=False, max_steps=2, report_to=[])
pairs, tokenizer = load_preferences("aws-api", limit=16), load_tokenizer(SMOKE)
trainer = ORPOTrainer(model=load_model(SMOKE), args=args, train_dataset=pairs, processing_class=tokenizer)
trainer.train()
print(trainer.model.device, trainer.state.global_step, "torch_xla" in read_machine().neuron_packages)
"""


def test_a_notebook_trains_on_the_cpu_where_torch_xla_is_and_still_knows_that_it_is(tmp_path):
    kept = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    environment = kept | {"PJRT_DEVICE": "CPU", "WORKSHOP_RUNS": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", NOTEBOOK]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "cpu 2 True"


def test_a_rehearsal_is_one_even_where_the_cpu_was_asked_for(tmp_path, monkeypatch):
    for name in ONE_PROCESS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    monkeypatch.setattr(run, "REHEARSAL_PYTHON", sys.executable)
    rehearsed = run.rehearse("orpo", output_dir=tmp_path, max_steps=2, max_length=128, pairs=16, bf16=False)
    assert len(rehearsed.records) == 2 and rehearsed.graphs > 0
