"""Which rows an update draws and how it weighs them: split unevenly, resumed, beside a plain Trainer."""

import pytest
import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments, default_data_collator
from trl import SFTConfig

from helpers.data.tokenize import tokenize_preferences
from helpers.data.trl_format import sft_features
from helpers.training.base_model import smoke_model
from helpers.training.dpo import DPOConfig, DPOTrainer
from helpers.training.draws import EpochOrder
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.sft import SFTTrainer
from tests.conftest import make_pairs

KINDS = {"orpo": (ORPOConfig, ORPOTrainer), "dpo": (DPOConfig, DPOTrainer), "sft": (SFTConfig, SFTTrainer)}
WAYS = [("orpo", {"layout": "shared"}), ("orpo", {"layout": "rows"}), ("dpo", {"layout": "shared"})]
WAYS += [("sft", {"completion_only_loss": True, "bf16": False, "gradient_checkpointing": False})]


@pytest.fixture(scope="module")
def eight(tokenizer):
    pairs = make_pairs({f"Question {i}": ("yes " * (i + 1), "no " * (9 - i)) for i in range(8)})
    return tokenize_preferences(pairs, tokenizer, max_length=96)


def make(folder, method, tokenized, tokenizer, **changes):
    config, kind = KINDS[method]
    plain = {"per_device_train_batch_size": 2, "max_length": 96, "save_strategy": "no", "report_to": []}
    plain |= {"disable_tqdm": True, "use_cpu": True, "logging_steps": 1, "learning_rate": 1e-3}
    args = config(output_dir=str(folder), **plain | changes)
    rows = sft_features(tokenized) if method == "sft" else tokenized
    return kind(smoke_model(0), args, train_dataset=rows, processing_class=tokenizer)


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("method", "way"), WAYS)
def test_a_smaller_last_part_of_an_update_counts_by_what_it_holds(tmp_path, eight, tokenizer, method, way):
    """Six pairs as four and two move the weights as six at once; a mean of the parts' means is a quarter off."""
    moved, start = [], weights(smoke_model(0))
    for size, parts in ((6, 1), (4, 2)):
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts, "num_train_epochs": 1}
        trainer = make(
            tmp_path, method, eight.select(range(6)), tokenizer, optim="sgd", max_grad_norm=0, **split, **way
        )
        trainer.train()
        assert trainer.state.global_step == 1
        moved.append(weights(trainer.model) - start)
    assert (moved[1] - moved[0]).norm() <= 1e-5 * moved[0].norm()


@pytest.mark.parametrize(("method", "way"), WAYS)
def test_a_run_resumed_within_its_second_epoch_is_the_whole_run(tmp_path, eight, tokenizer, method, way):
    def losses(checkpoint=None) -> list[float]:
        run = make(tmp_path, method, eight, tokenizer, max_steps=8, save_strategy="steps", save_steps=6, **way)
        run.train(resume_from_checkpoint=checkpoint)
        return [line["loss"] for line in run.state.log_history if "loss" in line]

    assert losses() == losses(str(tmp_path / "checkpoint-6"))


def test_the_order_of_pairs_is_that_of_a_plain_trainer(tmp_path, tokenizer):
    plain = {"report_to": [], "use_cpu": True, "per_device_train_batch_size": 2, "remove_unused_columns": False}
    args = TrainingArguments(str(tmp_path), seed=3, **plain)
    numbers = Dataset.from_list([{"row": i} for i in range(9)])
    loader = Trainer(smoke_model(0), args, default_data_collator, numbers).get_train_dataloader()
    order = EpochOrder(9, seed=3)
    for epoch in range(3):
        loader.set_epoch(epoch)
        order.set_epoch(epoch)
        assert [row for batch in loader for row in batch["row"].tolist()] == list(order)
    order.set_epoch(0)  # as accelerate says after a resume
    assert order.epoch == 2 and len(list(SequentialSampler(order))) == 9
