"""Logits for the answers only: the head sees as many positions as asked for, and log-probs and gradients stay.

The reference is transformers in float64, one answer at a time, which knows of no padding, picking or shared row.
"""

import pytest
import torch
import torch_xla

from helpers.data.schema import SIDES
from helpers.neuron import NeuronORPOConfig
from helpers.neuron.logprobs import first_positions, mean_pair_logps, picked_targets, summed_pair_logps
from helpers.objective.labels import IGNORE
from helpers.training.base_model import SMOKE, load_model, load_tokenizer
from tests.rehearsal.launch import compiled_graphs
from tests.rehearsal.reference import unfused
from tests.rehearsal.tiny import LENGTH, neuron_dpo_trainer, neuron_trainer, real_pairs, save_tiny_model

PAIRS = 4
WEIGHTS = (1.0, -0.3)  # of chosen and rejected log-probs, in a made-up objective


@pytest.fixture(scope="module")
def pairs():
    return real_pairs(PAIRS, load_tokenizer(SMOKE))


@pytest.fixture(scope="module")
def longest(pairs) -> int:
    return max(sum(label != IGNORE for label in row[f"{side}_labels"]) for row in pairs for side in SIDES)


def in_float64(path: str, pairs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean log-probs (2, pairs), and gradients of their weighted sum, answer by answer."""
    model, logps = load_model(path).double(), []
    for side in SIDES:
        for row in pairs:
            ids, answer = torch.tensor(row[f"{side}_input_ids"]), slice(row["prompt_length"], None)
            every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            logps.append(every.gather(1, ids[1:, None])[:, 0][answer.start - 1 :].mean())
    together = torch.stack(logps).view(2, -1)
    sum(weight * side.sum() for weight, side in zip(WEIGHTS, together, strict=True)).backward()
    return together.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("architecture", "layout", "given"),
    [("llama", "rows", True), ("qwen3", "rows", True), ("qwen3", "shared", True), ("llama", "shared", False)],
)
def test_log_probs_and_gradients_are_those_of_all_logits(architecture, layout, given, pairs, longest, tmp_path):
    """As many positions as the longest answer has, or what the trainer takes from the data."""
    path = save_tiny_model(tmp_path / "model", architecture)
    settings = {"layout": layout, "per_device_train_batch_size": PAIRS}
    settings |= {"max_response_length": longest} if given else {}
    trainer = neuron_trainer(path, pairs, tmp_path / "out", zero_1=False, **settings)
    positions = longest if given else 64
    assert trainer.response_length == positions and longest < 64
    model = trainer.accelerator.prepare_model(trainer.model)
    shapes = []
    hook = model.lm_head.register_forward_hook(lambda head, states, logits: shapes.append(tuple(logits.shape[:2])))
    batch = {name: values.to("xla") for name, values in trainer.data_collator(list(pairs)).items()}
    logps = mean_pair_logps(model, batch, trainer.response_length)
    sum(weight * side.sum() for weight, side in zip(WEIGHTS, logps, strict=True)).backward()
    torch_xla.sync()  # else every number that is read below is a graph of its own
    hook.remove()
    assert shapes == [(2 * PAIRS, positions) if layout == "rows" else (PAIRS, 2 * positions)]
    expected, gradients = in_float64(path, pairs)
    torch.testing.assert_close(torch.stack(logps).detach().cpu().double(), expected, rtol=1e-6, atol=1e-6)
    found = unfused({name: p.grad.cpu().double() for name, p in model.named_parameters()})
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name
    assert not model.lm_head._forward_pre_hooks, "the head is as it was"


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_dpo_takes_them_for_policy_and_reference(layout, pairs, longest, tmp_path):
    path = save_tiny_model(tmp_path / "model", "llama")
    settings = {"layout": layout, "per_device_train_batch_size": 2, "zero_1": False}
    shapes = []
    trainer = neuron_dpo_trainer(path, pairs, tmp_path / "few", max_response_length=longest, **settings)
    trainer.model.lm_head.register_forward_hook(lambda head, states, logits: shapes.append(logits.shape[1]))
    trainer.get_train_dataloader()
    batch = {name: values.to("xla") for name, values in trainer.data_collator(list(pairs)).items()}
    summed = summed_pair_logps(trainer.model, batch, trainer.response_length)
    loss = trainer.compute_loss(trainer.model, with_reference(trainer, batch))
    torch_xla.sync()
    expected, _ = in_float64(path, pairs)
    tokens = torch.tensor([[sum(t != IGNORE for t in row[f"{side}_labels"]) for row in pairs] for side in SIDES])
    torch.testing.assert_close(torch.stack(summed).detach().cpu().double(), expected * tokens, rtol=1e-6, atol=1e-5)
    given = torch.tensor([list(trainer.train_dataset[f"ref_{side}_logps"]) for side in SIDES], dtype=torch.float64)
    torch.testing.assert_close(given, expected * tokens, rtol=1e-6, atol=1e-5)
    assert float(loss.detach()) == pytest.approx(0.6931, abs=1e-4)
    assert set(shapes) == {longest if layout == "rows" else 2 * longest}


def with_reference(trainer, batch: dict) -> dict:
    """The batch with the reference log-probs that the trainer found, and its share of the update."""
    names = [f"ref_{side}_logps" for side in SIDES]
    found = {name: torch.tensor(list(trainer.train_dataset[name])).to("xla") for name in names}
    return batch | found | {"share": torch.ones(1).to("xla")}


def test_positions_worked_by_hand():
    """A response in the middle, one that ends with the row, one of a single token at its end."""
    targets = torch.tensor([[-100, 7, 8, -100, -100], [-100, -100, 5, 6, 7], [-100, -100, -100, -100, 9]])
    picks = first_positions(targets != IGNORE, 3)
    places = [[[t for t in range(5) if pick[t]] for pick in row] for row in picks]
    assert places == [[[1], [2], [3]], [[2], [3], [4]], [[4], [], []]]
    assert picked_targets(targets, picks).tolist() == [[7, 8, -100], [5, 6, 7], [9, -100, -100]]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_that_is_longer_is_refused_before_a_graph(pairs, longest, tmp_path):
    path, before = save_tiny_model(tmp_path / "model", "llama"), compiled_graphs()
    with pytest.raises(ValueError, match=rf"^row \d: its \w+ response has \d+ tokens, .* set it to {longest} or more"):
        neuron_trainer(path, pairs, tmp_path, max_response_length=longest - 1, per_device_train_batch_size=2)
    assert compiled_graphs() - before <= 1, "of the model that is given"


def test_what_no_rank_could_split_or_no_row_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_response_length is 0: give 1 or more, or leave it out"):
        NeuronORPOConfig(output_dir=str(tmp_path), max_response_length=0)
    settings = {"output_dir": str(tmp_path), "tensor_parallel_size": 4, "max_length": LENGTH}
    with pytest.raises(ValueError, match=r"max_response_length 50 is not divisible by tensor_parallel_size 4.* 52"):
        NeuronORPOConfig(**settings, max_response_length=50)
