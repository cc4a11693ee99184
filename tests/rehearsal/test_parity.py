"""NeuronORPOTrainer on XLA's CPU device against the CPU's ORPOTrainer and trl.ORPOTrainer in plain PyTorch."""

from types import SimpleNamespace

import pytest
import torch

from helpers.neuron import preference
from helpers.training.base_model import SMOKE, load_tokenizer
from tests.rehearsal.reference import assert_agreement, outcome, plain_pytorch
from tests.rehearsal.tiny import LENGTH, neuron_trainer, real_pairs, save_tiny_model, trl_metrics

METRICS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def path(request, tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def pairs():
    return real_pairs(24, load_tokenizer(SMOKE))


@pytest.mark.parametrize(
    ("zero_1", "layout"), [(False, "rows"), (True, "rows"), (False, "shared")], ids=["rows", "zero-1", "shared"]
)
def test_loss_metrics_gradients_and_five_steps(path, pairs, tmp_path, zero_1, layout):
    # Clipped in one case; in the other not, since one trainer clips before the gradients are seen and one after
    settings = {"max_steps": 5, "per_device_train_batch_size": 4, "max_grad_norm": 1.0 if zero_1 else 0.0}
    plain = plain_pytorch(tmp_path, path, len(pairs), LENGTH, **settings)
    xla = outcome(neuron_trainer(path, pairs, tmp_path / "neuron", zero_1=zero_1, layout=layout, **settings))
    assert_agreement(plain, xla, METRICS, gradients=not zero_1)  # ZeRO-1 keeps its gradients in shards


def test_first_loss_is_trls_in_its_matching_setting(path, pairs, tmp_path):
    """One pair with a prompt of one token: trl 0.24 takes the NLL over all tokens that follow the first."""
    one = pairs.select([0]).map(with_the_last_token_of_the_prompt)
    settings = {"max_steps": 1, "per_device_train_batch_size": 1}
    xla = outcome(neuron_trainer(path, one, tmp_path / "neuron", **settings))["history"][0]
    trl = trl_metrics(path, one[0], tmp_path)
    two_ulps = 2e-7 * abs(trl["logps/chosen"])  # the margin is a small difference of numbers of this size, in float32
    for name in METRICS:
        assert xla[name] == pytest.approx(trl[name], rel=1e-5, abs=two_ulps), name
    assert xla["loss"] == pytest.approx(trl["loss"], rel=1e-5)


def with_the_last_token_of_the_prompt(row: dict) -> dict:
    first = row["prompt_length"] - 1
    cut = {name: row[name][first:] for name in row if name.endswith(("_input_ids", "_labels"))}
    return row | cut | {"prompt_length": 1}


def test_what_is_logged_is_the_mean_over_data_parallel_ranks(path, pairs, tmp_path, monkeypatch):
    """Two ranks by hand, the other with the same pairs: summing over ranks doubles, and the means are those of one."""
    settings = {"max_steps": 3, "per_device_train_batch_size": 2, "logging_steps": 3, "zero_1": False}
    one = outcome(neuron_trainer(path, pairs, tmp_path / "one", **settings))["history"][0]
    asked = []

    def with_the_other_rank(how, sums, groups):
        asked.append((how, groups))
        return sums * 2

    both = SimpleNamespace(REDUCE_SUM=preference.xm.REDUCE_SUM, all_reduce=with_the_other_rank)
    monkeypatch.setattr(preference, "xm", both)
    trainer = neuron_trainer(path, pairs, tmp_path / "two", **settings)
    trainer.dp_size = 2
    two = outcome(trainer)["history"][0]
    assert asked == [("sum", preference.get_data_parallel_replica_groups())]
    for name in METRICS:
        assert two[name] == pytest.approx(one[name], rel=1e-6), name


def test_bf16_loss_is_within_a_percent(path, pairs, tmp_path):
    settings = {"max_steps": 3, "per_device_train_batch_size": 4}
    histories = [
        outcome(neuron_trainer(path, pairs, tmp_path / dtype, dtype=dtype, **settings))["history"]
        for dtype in ("float32", "bfloat16")
    ]
    for exact, rounded in zip(*histories, strict=True):
        assert rounded["loss"] == pytest.approx(exact["loss"], rel=1e-2)
        assert all(torch.isfinite(torch.tensor(rounded[name])) for name in METRICS)
