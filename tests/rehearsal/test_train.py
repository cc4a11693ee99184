"""scripts/train.py on the rehearsal's XLA device, started as a user starts it: all methods, each on one architecture.

A start costs a minute of processor time; what architectures and methods do in common is tested in one process.
"""

import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.data.tokenize import tokenize_preferences
from helpers.files import REPOSITORY
from helpers.neuron import train_command
from helpers.objective.logprobs import pair_logps
from helpers.objective.odds_ratio import orpo_loss
from helpers.training.base_model import SMOKE, load_model, load_tokenizer
from scripts import train
from tests.rehearsal.launch import ONE_PROCESS, compiled_graphs
from tests.rehearsal.tiny import LENGTH, real_pairs, save_tiny_model

SHORT = ("--max_steps", "6", "--max_length", "96", "--per_device_train_batch_size", "2", "--pairs", "24")


def start(folder, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.rehearsal.launch", "scripts/train.py", "--output_dir", str(folder)]
    kept = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    return subprocess.run(
        [*command, *arguments], cwd=REPOSITORY, env=kept | environment, capture_output=True, text=True
    )


def graphs(said: str) -> int:
    """Of a start without a compile cache: one with a cache says how many were new, too."""
    return int(re.search(r"XLA compiled (\d+) graphs$", said, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("qwen3"), "qwen3")


def test_both_methods_and_layouts_learn_and_orpo_compiles_no_more_than_sft(llama, tmp_path):
    compiled, losses = {}, {}
    for name in ("sft", "orpo rows", "orpo shared"):
        method, *layout = name.split()
        options = ("--method", method, "--model", llama, "--learning_rate", "1e-2", "--bf16", "False")
        done = start(tmp_path / name, *options, *(("--layout", *layout) if layout else ()), *SHORT)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "stood in for, in one process: neuronx_distributed" in done.stdout
        assert "Backend neuron: XLA's CPU device stands in for a Trainium" in done.stdout
        assert ("ORPO in shared rows of" in done.stdout) == (name == "orpo shared")
        records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
        assert records[2]["graphs"] == records[5]["graphs"] <= graphs(done.stdout)
        losses[name], compiled[name] = [record["loss"] for record in records], graphs(done.stdout)
        assert losses[name][-1] < losses[name][0]
    print(f"\n{compiled} {losses}")
    assert max(compiled["orpo rows"], compiled["orpo shared"]) <= compiled["sft"]
    assert losses["orpo shared"] == pytest.approx(losses["orpo rows"], rel=1e-4)


def test_dpo_starts_at_the_reference_and_saves_a_model(tmp_path):
    path = save_tiny_model(tmp_path / "tiny", "llama")
    options = ("--method", "dpo", "--model", path, "--learning_rate", "1e-3", "--bf16", "False")
    done = start(tmp_path / "out", *options, *SHORT)
    assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[0]["loss"] == pytest.approx(math.log(2), abs=6e-5)
    assert records[0]["rewards/margins"] == pytest.approx(0, abs=1e-4) and records[-1]["rewards/margins"] > 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["methods"]["dpo"]["method"] == "dpo"
    assert (tmp_path / "out" / "dpo" / "model" / "model.safetensors").is_file()


def test_the_saved_model_is_an_ordinary_one(qwen3, tmp_path):
    options = ("--method", "orpo", "--model", qwen3, "--bf16", "True", "--zero_1", "False", "--learning_rate", "1e-2")
    done = start(tmp_path, *options, *SHORT)
    assert done.returncode == 0, done.stderr[-2000:]
    model, before = load_model(str(tmp_path / "orpo" / "model")), load_model(qwen3)
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert all(moved), "every weight was trained and saved under its ordinary name"
    row = real_pairs(1, load_tokenizer(SMOKE))[0]
    assert torch.isfinite(model(torch.tensor([row["chosen_input_ids"]])).logits).all()


def test_lora_saves_an_adapter(qwen3, tmp_path):
    done = start(tmp_path, "--method", "orpo", "--model", qwen3, "--lora_rank", "4", "--learning_rate", "1e-2", *SHORT)
    assert done.returncode == 0, done.stderr[-2000:]
    adapters = list((tmp_path / "orpo" / "model").rglob("adapter_model.safetensors"))
    assert len(adapters) == 1
    lora_b = [weight for name, weight in load_file(adapters[0]).items() if "lora_B" in name]
    assert lora_b and all(weight.abs().max() > 0 for weight in lora_b)


def test_the_recommended_command_over_two_processes_saves_the_adapter_that_it_trained(qwen3, tmp_path):
    """README's command under torchrun. Its two pairs are every step's batch, and the last step hardly moves: so the
    last loss that training logged is that of the saved adapter, in transformers and PEFT."""
    settings = {"model": qwen3, "tensor_parallel_size": 2, "lora_rank": 16, "beta": 0.25, "bf16": True}
    settings |= {"max_length": LENGTH, "max_steps": 20, "pairs": 2, "per_device_train_batch_size": 2, "seed": 0}
    settings |= {"learning_rate": 1e-2, "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": '{"power": 3}'}
    script, *arguments = train_command("orpo", output_dir=tmp_path, **settings)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--module"]
    kept = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    command = [*torchrun, "tests.rehearsal.launch", script, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gradients that a rank has only in part (LoRA, norms) are added up") == 1
    losses = [json.loads(line)["loss"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(losses) == 20 and losses[-1] < losses[0] - 1, "one process logs, and it learns"
    saved = PeftModel.from_pretrained(load_model(qwen3), tmp_path / "orpo" / "model")
    tokenizer = load_tokenizer(SMOKE)
    rows = tokenize_preferences(load_preferences(limit=2, seed=0), tokenizer, LENGTH)
    with torch.no_grad():
        chosen, rejected = pair_logps(saved, PreferenceCollator(tokenizer.pad_token_id, "rows", LENGTH)(list(rows)))
    loss = orpo_loss(-chosen, chosen, rejected, 0.25).item()
    print(f"\nlosses {losses}, of the saved adapter {loss}")
    assert loss == pytest.approx(losses[-1], rel=1e-3)  # training's is of bf16, this of float32


def test_precompiling_saves_nothing(llama, tmp_path):
    options = ("--method", "orpo", "--model", llama, *SHORT)
    done = start(tmp_path / "out", *options, NEURON_EXTRACT_GRAPHS_ONLY="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing is saved" in done.stdout and not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["sft", "orpo"])
@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        (("--resume_from_checkpoint", "x"), {}, "NeuronTrainer can't resume"),
        (("--eval_strategy", "steps"), {}, "no evaluation during training"),
        (("--pipeline_parallel_size", "2"), {}, "pipeline_parallel_size > 1"),
        (("--per_device_train_batch_size", "99"), {}, "24 pairs do not fill one batch of 99"),
        (("--per_device_train_batch_size", "7", "--dataloader_drop_last", "False"), {}, "would hold 3 of 7 pairs"),
        ((), {"XLA_USE_BF16": "1"}, "XLA_USE_BF16 is set"),
    ],
    ids=["resume", "evaluation", "pipeline", "too few", "uneven", "downcast"],
)
def test_what_it_cannot_do_is_one_line_before_a_graph(
    tmp_path, monkeypatch, capsys, method, options, environment, says
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = compiled_graphs()
    arguments = ["--method", method, "--model", SMOKE, "--output_dir", str(tmp_path / "out"), *SHORT, *options]
    assert train.main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: ")]
    assert says in line
    assert compiled_graphs() == before and not list(tmp_path.rglob("*.safetensors"))
