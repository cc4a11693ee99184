"""One update of eight pairs is the same however they come, at once or in parts; also where an epoch's end cuts it."""

import pytest

from helpers.training.base_model import SMOKE, load_tokenizer
from tests.rehearsal.reference import outcome
from tests.rehearsal.tiny import neuron_trainer, real_pairs, save_tiny_model


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_eight_pairs_at_once_or_in_parts(architecture, tmp_path):
    path = save_tiny_model(tmp_path / "model", architecture)
    pairs = real_pairs(8, load_tokenizer(SMOKE))
    assert len({len(row["chosen_input_ids"]) for row in pairs}) > 4, "responses of different lengths"
    outcomes = []
    for batch in (8, 4, 2, 1):
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


def test_an_epoch_that_ends_within_an_update_gives_the_update_of_the_pairs_that_were_left(tmp_path):
    """Seven pairs, four an update: the second has three, and each of them a third of it."""
    path = save_tiny_model(tmp_path / "model", "llama")
    pairs = real_pairs(7, load_tokenizer(SMOKE))
    unmoved = {"optim": "sgd", "learning_rate": 1e-30, "max_grad_norm": 1e9, "zero_1": False}

    def history(rows, batch: int, **settings):
        settings |= unmoved | {"per_device_train_batch_size": batch}
        return outcome(neuron_trainer(path, rows, tmp_path / str(batch), **settings))["history"]

    in_parts = history(pairs, 1, gradient_accumulation_steps=4, num_train_epochs=1)
    at_once = history(pairs.select(range(4)), 4, max_steps=1) + history(pairs.select(range(4, 7)), 3, max_steps=1)
    assert len(in_parts) == 2
    for parts, whole in zip(in_parts, at_once, strict=True):
        for name in ("loss", "grad_norm", "logps/chosen", "rewards/margins"):
            assert parts[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-6), name
