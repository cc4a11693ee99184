"""Every graph costs minutes on a Trainium: how many there are, and that nothing in the data adds one.

Each count is taken in a process of its own, since a graph that one trainer has compiled costs the next one nothing.
"""

import json
import os
import subprocess
import sys

import pytest
from transformers import TrainerCallback

from helpers.files import REPOSITORY
from helpers.training.base_model import SMOKE, load_tokenizer
from tests.rehearsal.launch import ONE_PROCESS
from tests.rehearsal.tiny import (
    LENGTH,
    neuron_dpo_trainer,
    neuron_sft_trainer,
    neuron_trainer,
    real_pairs,
    save_tiny_model,
)

SETTLED = 3  # steps after which nothing new may be compiled
STEPS = SETTLED + 20
PAIRS_A_STEP = 2
COUNTED_BEFORE = 7  # graphs of Optimum Neuron's SFT trainer, as we once counted them
DPO_GRAPHS = 7  # ORPO's six, and one that gives the reference log-probs


class CountGraphs(TrainerCallback):
    """How many graphs there were at the end of each step."""

    def __init__(self):
        self.at_step = []

    def on_step_end(self, args, state, control, **kwargs):
        from tests.rehearsal.launch import compiled_graphs

        self.at_step.append(compiled_graphs())


def every_length():
    """Real pairs, shortest first: each batch has lengths that no batch before it had."""
    pairs = real_pairs(PAIRS_A_STEP * STEPS, load_tokenizer(SMOKE))
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row]["chosen_input_ids"]))
    lengths = {len(pairs[row]["chosen_input_ids"]) for row in order}
    assert len(lengths) > 15 and max(lengths) <= LENGTH
    return pairs.select(order)


def main(method: str, path: str, output: str, settings: str) -> None:
    """Train and print the graphs at the end of each step, then those of the whole process."""
    from peft import LoraConfig

    from tests.rehearsal.launch import compiled_graphs, prepare

    prepare()
    count, settings = CountGraphs(), json.loads(settings)
    settings = {"max_steps": STEPS, "per_device_train_batch_size": PAIRS_A_STEP} | settings
    if rank := settings.pop("lora_rank", None):
        settings["peft_config"] = LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    make = {"sft": neuron_sft_trainer, "orpo": neuron_trainer, "dpo": neuron_dpo_trainer}[method]
    make(path, every_length(), output, callbacks=[count], **settings).train()
    print(json.dumps([*count.at_step, compiled_graphs()]))


@pytest.fixture
def graphs(tmp_path):
    """(method, architecture, settings of the trainer) → what `main` prints, from a process of its own."""

    def count(method: str, architecture: str, **settings) -> list[int]:
        path = save_tiny_model(tmp_path / architecture, architecture)
        environment = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
        command = [sys.executable, "-m", "tests.rehearsal.test_graphs", method, path, str(tmp_path / "output")]
        done = subprocess.run(
            [*command, json.dumps(settings)], cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        counted = json.loads(done.stdout.splitlines()[-1])
        print(f"\ngraphs of {method} on {architecture} {settings or ''} after each step: {counted}")
        return counted

    return count


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_lengths_add_no_graph_and_orpo_needs_no_more_than_sft(graphs, architecture):
    sft, orpo = graphs("sft", architecture), graphs("orpo", architecture)
    assert orpo[SETTLED - 1 : STEPS] == [orpo[SETTLED - 1]] * 21, "twenty further steps"
    assert 0 < orpo[-1] <= sft[-1] <= COUNTED_BEFORE


def test_dpo_needs_one_graph_more_for_its_reference(graphs):
    dpo = graphs("dpo", "llama")
    assert dpo[SETTLED - 1 : STEPS] == [dpo[SETTLED - 1]] * 21
    assert dpo[-1] == DPO_GRAPHS


def test_shared_rows_need_no_more_graphs(graphs):
    counted = graphs("orpo", "qwen3", layout="shared")
    assert counted[SETTLED - 1 : STEPS] == [counted[SETTLED - 1]] * 21 and counted[-1] <= COUNTED_BEFORE


def test_checkpoints_add_no_graph(graphs, tmp_path):
    counted = graphs("orpo", "llama", save_strategy="steps", save_steps=8, logging_steps=3)
    assert len(list((tmp_path / "output").glob("checkpoint-*/shards/model/*.pt"))) == 3, (
        "two on the way, one at the end"
    )
    assert counted[7] == counted[STEPS - 1] and counted[-1] <= COUNTED_BEFORE


def test_accumulation_and_lora_settle_too(graphs):
    """The epoch ends within an update: 46 batches, three an update."""
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "lora_rank": 4}
    counted = graphs("orpo", "qwen3", **settings, max_steps=16)
    assert len(counted) == 17 and counted[SETTLED - 1 : 16] == [counted[SETTLED - 1]] * 14
    assert counted[-1] <= COUNTED_BEFORE


if __name__ == "__main__":
    main(*sys.argv[1:])
