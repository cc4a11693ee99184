"""SFT from the logits of labelled tokens alone is TRL's SFT: its losses, gradients, accuracies and trained weights."""

import pytest
import torch
from peft import LoraConfig
from trl import SFTConfig
from trl import SFTTrainer as TRLsTrainer

from helpers.data.tokenize import tokenize_preferences
from helpers.data.trl_format import sft_features
from helpers.objective.chunked_logprobs import LOGIT_ROWS, predictions
from helpers.training.base_model import SMOKE, load_tokenizer, smoke_model
from helpers.training.sft import SFTTrainer
from tests.conftest import make_pairs

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture(scope="module")
def features():
    return sft_features(tokenize_preferences(make_pairs(), load_tokenizer(SMOKE), 128))


def trained(kind, features, folder, peft_config=None, **settings):
    """A trainer of this kind after three updates."""
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2} | settings
    settings |= {"output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": [], "logging_steps": 1}
    settings |= {"completion_only_loss": True, "save_strategy": "no", "disable_tqdm": True}
    torch.manual_seed(0)
    args = SFTConfig(gradient_checkpointing=False, **settings)
    tokenizer = load_tokenizer(SMOKE)
    trainer = kind(smoke_model(0), args, train_dataset=features, processing_class=tokenizer, peft_config=peft_config)
    trainer.train()
    return trainer


@pytest.mark.parametrize("settings", [{}, {"peft_config": LORA}, {"gradient_accumulation_steps": 2}])
def test_it_trains_what_trl_trains(features, tmp_path, settings):
    if "gradient_accumulation_steps" in settings:
        settings |= {"per_device_train_batch_size": 2}
    ours, theirs = (trained(kind, features, tmp_path, **settings) for kind in (SFTTrainer, TRLsTrainer))
    assert ours.chunked == hasattr(theirs, "num_virtual_tokens"), "a newer TRL leaves logits out itself"
    for mine, reference in zip(ours.state.log_history[:3], theirs.state.log_history[:3], strict=True):
        for name in ("loss", "grad_norm", "mean_token_accuracy", "num_tokens"):
            assert mine[name] == pytest.approx(reference[name], rel=1e-4, abs=1e-4), name
        assert mine["entropy"] > 0
    weights = dict(theirs.model.named_parameters())
    for name, weight in ours.model.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-4)


def test_evaluation_is_trls(features, tmp_path):
    """With the same weights it has the same loss on held-out rows."""
    ours, theirs = (
        trained(kind, features, tmp_path, max_steps=1, learning_rate=0.0) for kind in (SFTTrainer, TRLsTrainer)
    )
    measured = [trainer.evaluate(trainer.train_dataset)["eval_loss"] for trainer in (ours, theirs)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-6)


@pytest.mark.parametrize(
    "settings", [{"loss_type": "dft"}, {"label_smoothing_factor": 0.1}, {"padding_free": True, "max_length": None}]
)
def test_another_loss_or_batch_is_left_to_trl(features, tmp_path, settings):
    ours, theirs = (trained(kind, features, tmp_path, **settings) for kind in (SFTTrainer, TRLsTrainer))
    assert not ours.chunked
    losses = [[line["loss"] for line in trainer.state.log_history[:3]] for trainer in (ours, theirs)]
    assert losses[0] == losses[1]


def test_a_batch_with_more_than_text_is_left_to_trl(features, tmp_path):
    """Token types, as some models read them, reach the model."""
    trainer, seen = trained(SFTTrainer, features, tmp_path, max_steps=1), []
    trainer.model.register_forward_pre_hook(lambda model, args, given: seen.append(given.keys()), with_kwargs=True)
    batch = trainer.data_collator([features[0]])
    trainer.compute_loss(trainer.model.train(), batch | {"token_type_ids": batch["input_ids"] * 0})
    assert "token_type_ids" in seen[0]


def test_entropies_and_hits_against_float64():
    """Over more rows than a block has; one worked by hand: two equal logits have the entropy ln 2."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(LOGIT_ROWS + 5, 8, generator=generator)
    weight = torch.randn(50, 8, generator=generator)
    logps = (hidden.double() @ weight.double().T).log_softmax(-1)
    labels = logps.argmax(-1)
    labels[::3] = (labels[::3] + 1) % 50
    entropies, hits, count = predictions(hidden, weight, labels).tolist()
    assert entropies == pytest.approx(-(logps.exp() * logps).sum().item(), rel=1e-5)
    assert (hits, count) == (len(labels) - len(labels[::3]), len(labels))
    by_hand = predictions(torch.ones(1, 1), torch.tensor([[3.0], [3.0], [-1e4]]), torch.tensor([2]))
    assert by_hand.tolist() == pytest.approx([0.693147, 0, 1])
