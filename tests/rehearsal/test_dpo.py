"""NeuronDPOTrainer on XLA's CPU device: parity with plain PyTorch, the reference that it computes, what it refuses."""

import math
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig

from helpers.data.schema import REFERENCE
from helpers.neuron import NeuronDPOConfig, NeuronDPOTrainer
from helpers.training.base_model import SMOKE, load_model, load_tokenizer
from helpers.training.dpo_reference import summed_logps, with_columns
from tests.rehearsal.reference import assert_agreement, outcome, plain_pytorch
from tests.rehearsal.tiny import LENGTH, neuron_dpo_trainer, real_pairs, save_tiny_model

METRICS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")
BATCH = 4
SHORT = {"max_steps": 5, "per_device_train_batch_size": BATCH, "max_grad_norm": 0.0, "zero_1": False}
SHORT |= {"adam_epsilon": 1e-6}  # AdamW's usual 1e-8 turns a gradient that is mere rounding into a whole step


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def pairs():
    return real_pairs(22, load_tokenizer(SMOKE))


@pytest.fixture(scope="module")
def reference(path, pairs):
    """What plain PyTorch gives the pairs before the first step."""
    return summed_logps(pairs, load_model(path), load_tokenizer(SMOKE).pad_token_id)


@pytest.mark.parametrize(("architecture", "layout"), [("llama", "rows"), ("qwen3", "shared")])
def test_loss_metrics_gradients_and_five_steps(architecture, layout, pairs, tmp_path):
    path = save_tiny_model(tmp_path / "model", architecture)
    settings = {name: value for name, value in SHORT.items() if name != "zero_1"}
    plain = plain_pytorch(tmp_path, path, len(pairs), LENGTH, method="dpo", beta=0.1, **settings)
    xla = outcome(neuron_dpo_trainer(path, pairs, tmp_path / "neuron", layout=layout, **SHORT))
    assert_agreement(plain, xla, METRICS)
    for outcome_of in (plain, xla):
        assert outcome_of["history"][0]["loss"] == pytest.approx(math.log(2), abs=6e-5)
    assert abs(plain["history"][-1]["rewards/margins"]) > 0.01, "five steps went somewhere"


def test_with_lora_the_base_is_the_reference(path, pairs, reference, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.0)
    settings = SHORT | {"learning_rate": 1e-2, "layout": "shared", "max_steps": 6}
    trainer = neuron_dpo_trainer(path, pairs.select(range(BATCH)), tmp_path, peft_config=lora, **settings)
    trainer.train()
    for name in REFERENCE:
        assert list(trainer.train_dataset[name]) == pytest.approx(reference[name][:BATCH], rel=1e-5)
    history = [record for record in trainer.state.log_history if "loss" in record]
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=6e-5)
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["rewards/margins"] > 0
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_a_reference_from_elsewhere_is_kept_if_it_is_this_models(path, pairs, reference, tmp_path):
    given = with_columns(pairs, reference)
    trainer = neuron_dpo_trainer(path, given, tmp_path, **SHORT)
    assert len(trainer.get_train_dataloader()) == len(pairs) // BATCH
    assert trainer.train_dataset is given
    computing = neuron_dpo_trainer(path, pairs, tmp_path, **SHORT)
    computing.get_train_dataloader()
    for name in REFERENCE:
        assert list(computing.train_dataset[name]) == pytest.approx(reference[name], rel=1e-5)


@pytest.mark.parametrize(("row", "value", "says"), [(0, -3.0, "made with another model"), (21, math.nan, "is nan")])
def test_a_reference_of_another_model_is_refused_before_the_first_step(
    path, pairs, reference, tmp_path, row, value, says
):
    values = [value if i == row else found for i, found in enumerate(reference[REFERENCE[1]])]
    trainer = neuron_dpo_trainer(path, with_columns(pairs, reference | {REFERENCE[1]: values}), tmp_path, **SHORT)
    with pytest.raises(ValueError, match=rf"^row {row}: ref_rejected_logps .*{says}"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_precompiling_runs_one_batch_and_believes_no_number(path, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("NEURON_EXTRACT_GRAPHS_ONLY", "1")
    trainer = neuron_dpo_trainer(path, pairs, tmp_path, **SHORT)
    ran = []
    monkeypatch.setattr(trainer, "batch_logps", lambda rows: ran.append(len(rows)) or torch.full((BATCH, 2), math.nan))
    trainer.get_train_dataloader()
    assert ran == [BATCH] and set(trainer.train_dataset[REFERENCE[0]]) == {0.0}


def test_data_parallel_ranks_share_the_rows_and_run_equally_often(monkeypatch):
    args, shares = SimpleNamespace(per_device_train_batch_size=2), []
    for rank in (0, 1):
        monkeypatch.setattr("helpers.neuron.dpo.get_data_parallel_rank", lambda rank=rank: rank)
        trainer = SimpleNamespace(args=args, dp_size=2, model=torch.nn.Identity(), train_dataset=list(range(5)))
        trainer.is_world_process_zero, mine = (lambda: False), []
        trainer.batch_logps = lambda rows, mine=mine: mine.append(rows) or torch.zeros(4, 2)
        sums = NeuronDPOTrainer.forward_logps(trainer, range(5))
        assert [len(sums[name]) for name in REFERENCE] == [5, 5]
        shares.append(mine)
    assert shares == [[[0, 1], [4, 0]], [[2, 3], [1, 2]]]


@pytest.mark.parametrize("beta", [0, -0.1])
def test_a_beta_that_is_not_positive_is_refused(tmp_path, beta):
    with pytest.raises(ValueError, match=f"beta is {beta}: DPO's must be positive"):
        NeuronDPOConfig(output_dir=str(tmp_path), beta=beta)
