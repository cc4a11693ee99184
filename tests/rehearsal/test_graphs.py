"""Every graph costs minutes on a Trainium: how many there are, and that nothing in the data adds one."""

import pytest
from transformers import TrainerCallback

from helpers.models import SMOKE, load_tokenizer
from tests.rehearsal.launch import compiled_graphs
from tests.rehearsal.tiny import LENGTH, neuron_sft_trainer, neuron_trainer, real_pairs, save_tiny_model

SETTLED = 3  # steps after which nothing new may be compiled
STEPS = SETTLED + 20
PAIRS_A_STEP = 2


class CountGraphs(TrainerCallback):
    """How many graphs there were at the end of each step, and when training began."""

    def __init__(self):
        self.at_step = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.before = compiled_graphs()

    def on_step_end(self, args, state, control, **kwargs):
        self.at_step.append(compiled_graphs() - self.before)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def path(request, tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def every_length():
    """Real pairs, shortest first: each batch has lengths that no batch before it had."""
    pairs = real_pairs(PAIRS_A_STEP * STEPS, load_tokenizer(SMOKE))
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row]["chosen_input_ids"]))
    lengths = {len(pairs[row]["chosen_input_ids"]) for row in order}
    assert len(lengths) > 15 and max(lengths) <= LENGTH
    return pairs.select(order)


def train(make, path, pairs, output, **settings) -> list[int]:
    """Graphs at the end of each step; the last entry counts all of the run."""
    count = CountGraphs()
    settings = {"max_steps": STEPS, "per_device_train_batch_size": PAIRS_A_STEP} | settings
    make(path, pairs, output, callbacks=[count], **settings).train()
    return [*count.at_step, compiled_graphs() - count.before]


def test_lengths_add_no_graph_and_orpo_needs_no_more_than_sft(path, every_length, tmp_path):
    sft = train(neuron_sft_trainer, path, every_length, tmp_path / "sft")
    orpo = train(neuron_trainer, path, every_length, tmp_path / "orpo")
    print(f"\ngraphs after each step: SFT {sft}, ORPO {orpo}")
    assert orpo[SETTLED:] == [orpo[SETTLED]] * (STEPS - SETTLED + 1), orpo
    assert 0 < orpo[-1] <= sft[-1]
    assert orpo[-1] <= 7


def test_a_checkpoint_is_counted_apart_and_the_second_adds_nothing(path, every_length, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 8}
    graphs = train(neuron_trainer, path, every_length, tmp_path / "saving", **saving)
    plain = train(neuron_trainer, path, every_length, tmp_path / "plain")
    first, rest = graphs[8] - graphs[7], graphs[-1] - graphs[8]
    print(f"\na checkpoint adds {first} graphs the first time; {rest} afterwards")
    assert len(list((tmp_path / "saving").glob("checkpoint-*"))) == 2
    assert rest == 0 and graphs[7] <= plain[7] + 1


def test_accumulation_and_lora_settle_too(path, every_length, tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": 10}
    graphs = train(neuron_trainer, path, every_length, tmp_path / "lora", peft_config=lora, **settings)
    assert graphs[SETTLED:] == [graphs[SETTLED]] * (len(graphs) - SETTLED), graphs
