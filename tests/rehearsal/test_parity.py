"""NeuronORPOTrainer on XLA's CPU device against helpers.orpo.ORPOTrainer and trl.ORPOTrainer in plain PyTorch."""

import pytest
import torch
from transformers import TrainerCallback

from helpers.models import SMOKE, load_model, load_tokenizer
from tests.rehearsal.tiny import neuron_trainer, real_pairs, save_tiny_model, torch_trainer

METRICS = (
    "loss",
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


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimizer step, on the CPU, by parameter name."""

    def __init__(self):
        self.first = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.first is None:
            self.first = {name: p.grad.detach().cpu().clone() for name, p in model.named_parameters()}


def unfused(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Optimum Neuron fuses gate and up into one matrix, and for one core also query, key and value."""
    split = {}
    for name, tensor in named.items():
        if "gate_up_proj" in name:
            for part, piece in zip(("gate_proj", "up_proj"), tensor.chunk(2), strict=True):
                split[name.replace("gate_up_proj", part)] = piece
        else:
            split[name] = tensor
    return split


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def path(request, tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def pairs():
    return real_pairs(24, load_tokenizer(SMOKE))


def test_loss_metrics_gradients_and_five_steps(path, pairs, tmp_path):
    settings = {"max_steps": 5, "per_device_train_batch_size": 4, "zero_1": False, "max_grad_norm": 0.0}
    torch_settings = {key: value for key, value in settings.items() if key != "zero_1"}
    plain = torch_trainer(path, pairs, tmp_path / "torch", **torch_settings)
    xla = neuron_trainer(path, pairs, tmp_path / "neuron", **settings)
    histories, gradients, parameters = [], [], []
    for trainer in (plain, xla):
        callback = Gradients()
        trainer.add_callback(callback)
        trainer.train()
        histories.append([record for record in trainer.state.log_history if "loss" in record])
        gradients.append(unfused(callback.first))
        parameters.append(unfused({name: p.detach().cpu() for name, p in trainer.model.named_parameters()}))
    assert len(histories[0]) == len(histories[1]) == 5
    for name in METRICS:
        # NeuronTrainer rounds the loss that it logs to four digits.
        tolerance = {"abs": 6e-5} if name == "loss" else {"rel": 1e-5, "abs": 1e-6}
        assert histories[1][0][name] == pytest.approx(histories[0][0][name], **tolerance), name
        assert histories[1][4][name] == pytest.approx(histories[0][4][name], rel=1e-3, abs=1e-3), name
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-5 * gradient.abs().max().item())
    for name, parameter in parameters[0].items():
        difference = (parameters[1][name] - parameter).abs().max() / parameter.abs().max()
        assert difference < 1e-3, name


def test_first_loss_is_trls_in_its_matching_setting(path, pairs, tmp_path):
    """trl 0.24 averages the NLL over all tokens of a batch, prompt included; one pair without prompt is the same."""
    from trl import ORPOConfig, ORPOTrainer

    tokenizer = load_tokenizer(SMOKE)
    one = pairs.select([0])
    xla = neuron_trainer(path, one, tmp_path / "neuron", max_steps=1, per_device_train_batch_size=1, zero_1=False)
    xla.train()
    logged = next(record for record in xla.state.log_history if "loss" in record)
    model = load_model(path)
    args = ORPOConfig(output_dir=str(tmp_path / "trl"), beta=0.7, use_cpu=True, bf16=False, report_to=[])
    text = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    from datasets import Dataset

    trainer = ORPOTrainer(model=model, args=args, train_dataset=Dataset.from_list(text), processing_class=tokenizer)
    batch = trl_batch(one[0])
    metrics = trainer.get_batch_loss_metrics(model, batch, train_eval="train")[1]
    assert logged["logps/chosen"] == pytest.approx(float(metrics["logps/chosen"]), rel=1e-5)
    assert logged["logps/rejected"] == pytest.approx(float(metrics["logps/rejected"]), rel=1e-5)
    assert logged["log_odds_ratio"] == pytest.approx(float(metrics["log_odds_ratio"]), rel=1e-4)


def trl_batch(row: dict) -> dict:
    """The batch that trl.ORPOTrainer makes of one tokenised pair."""
    batch = {}
    for side in ("chosen", "rejected"):
        ids = torch.tensor([row[f"{side}_input_ids"]])
        batch |= {
            f"{side}_input_ids": ids,
            f"{side}_attention_mask": torch.ones_like(ids),
            f"{side}_labels": torch.tensor([row[f"{side}_labels"]]),
        }
    return batch
