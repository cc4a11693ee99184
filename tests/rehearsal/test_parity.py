"""NeuronORPOTrainer on XLA's CPU device against helpers.orpo.ORPOTrainer and trl.ORPOTrainer in plain PyTorch."""

import pytest
import torch

from helpers.models import SMOKE, load_tokenizer
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
    """One pair: trl 0.24 averages the NLL over all tokens of a batch, here over those of one response."""
    one = pairs.select([0])
    settings = {"max_steps": 1, "per_device_train_batch_size": 1}
    xla = outcome(neuron_trainer(path, one, tmp_path / "neuron", **settings))["history"][0]
    trl = trl_metrics(path, one[0], tmp_path)
    for name in ("logps/chosen", "logps/rejected", "log_odds_ratio", "log_odds_chosen", "rewards/margins"):
        assert xla[name] == pytest.approx(trl[name], rel=1e-4, abs=1e-6), name
    assert xla["loss"] == pytest.approx(trl["loss_without_prompt"], rel=1e-5, abs=6e-5)


def test_bf16_loss_is_within_a_percent(path, pairs, tmp_path):
    settings = {"max_steps": 3, "per_device_train_batch_size": 4}
    histories = [
        outcome(neuron_trainer(path, pairs, tmp_path / dtype, dtype=dtype, **settings))["history"]
        for dtype in ("float32", "bfloat16")
    ]
    for exact, rounded in zip(*histories, strict=True):
        assert rounded["loss"] == pytest.approx(exact["loss"], rel=1e-2)
        assert all(torch.isfinite(torch.tensor(rounded[name])) for name in METRICS)
