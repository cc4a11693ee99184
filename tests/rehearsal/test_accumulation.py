"""One update of eight pairs is the same whether they come at once, in two halves or one by one."""

import pytest

from helpers.models import SMOKE, load_tokenizer
from tests.rehearsal.reference import outcome
from tests.rehearsal.tiny import neuron_trainer, real_pairs, save_tiny_model


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_one_by_eight_two_by_four_and_eight_by_one(architecture, tmp_path):
    path = save_tiny_model(tmp_path / "model", architecture)
    pairs = real_pairs(8, load_tokenizer(SMOKE))
    assert len({len(row["chosen_input_ids"]) for row in pairs}) > 4, "responses of different lengths"
    outcomes = []
    for batch in (8, 4, 1):
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 8 // batch, "max_steps": 1}
        settings |= {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}  # Adam's first step is only a sign
        outcomes.append(outcome(neuron_trainer(path, pairs, tmp_path / str(batch), zero_1=False, **settings)))
    start = {name: p for name, p in outcomes[0]["parameters"].items()}
    for other in outcomes[1:]:
        for name, gradient in outcomes[0]["gradients"].items():
            assert (other["gradients"][name] - gradient).norm() <= 1e-5 * gradient.norm(), name
        for name, parameter in start.items():
            assert (other["parameters"][name] - parameter).norm() <= 1e-5 * parameter.norm(), name
        for name in ("loss", "logps/chosen", "rewards/margins", "rewards/accuracies"):
            expected = outcomes[0]["history"][0][name]
            assert other["history"][0][name] == pytest.approx(expected, rel=1e-4, abs=1e-6), name
