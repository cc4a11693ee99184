"""Adapters under bf16 autocast: the same values as PEFT's own way, in less memory; the saved model is whole."""

from contextlib import nullcontext

import pytest
import torch
from transformers import set_seed

from helpers.training.autocast import adapters_cast_once, round_frozen
from helpers.training.base_model import load_model, smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora
from helpers.training.stages import save_trained


def test_what_is_frozen_is_rounded_under_bf16_autocast_alone(tmp_path, tokenized, tokenizer):
    for bf16, frozen in ((False, torch.float32), (True, torch.bfloat16)):
        trainer = lora_trainer(tmp_path, tokenized, tokenizer, bf16)
        round_frozen(trainer)
        formats = {parameter.requires_grad: parameter.dtype for parameter in trainer.model.parameters()}
        assert formats == {True: torch.float32, False: frozen}


def test_all_weights_that_are_trained_stay_float32(tmp_path, tokenized, tokenizer):
    args = ORPOConfig(output_dir=str(tmp_path), bf16=True, use_cpu=True, report_to=[])
    trainer = ORPOTrainer(smoke_model(), args, tokenized, processing_class=tokenizer)
    round_frozen(trainer)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("checkpointing", (False, True))
def test_one_cast_less_changes_no_bit_of_loss_or_gradient(tmp_path, tokenized, tokenizer, checkpointing):
    """The reference is PEFT's own way: the input of an adapter becomes float32, and autocast makes it bf16 again."""
    found = []
    for context in (adapters_cast_once, lambda trainer: nullcontext()):
        trainer = lora_trainer(tmp_path, tokenized, tokenizer, bf16=True, gradient_checkpointing=checkpointing)
        batch = next(iter(trainer.get_train_dataloader()))
        with context(trainer):
            loss = trainer.compute_loss(trainer.model.train(), batch)
            loss.backward()
        grads = [p.grad for p in trainer.model.parameters() if p.requires_grad]
        found.append((loss.detach(), torch.cat([grad.flatten() for grad in grads])))
    (loss, gradient), (usual_loss, usual_gradient) = found
    assert torch.equal(loss, usual_loss)
    assert torch.allclose(gradient, usual_gradient, rtol=2**-7, atol=1e-4 * usual_gradient.abs().max())


def lora_trainer(folder, tokenized, tokenizer, bf16: bool, **arguments):
    """An ORPOTrainer with an adapter whose B is not zero, so that every gradient shows."""
    settings = {"output_dir": str(folder), "bf16": bf16, "use_cpu": True, "report_to": [], "disable_tqdm": True}
    set_seed(0)
    trainer = ORPOTrainer(
        model=smoke_model(),
        args=ORPOConfig(**settings | {"gradient_checkpointing": False} | arguments),
        train_dataset=tokenized,
        processing_class=tokenizer,
        peft_config=lora(PROFILES["smoke"]),
    )
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return trainer


class Stage:
    """Where a trained model is saved."""

    def __init__(self, folder):
        self.model_path = folder / "model"

    def write_file(self, name, content):
        self.written = name


def test_the_saved_model_is_float32_and_adds_the_adapter_without_rounding(tmp_path, tokenized, tokenizer):
    trainer, stage = lora_trainer(tmp_path, tokenized, tokenizer, bf16=True), Stage(tmp_path)
    round_frozen(trainer)
    save_trained(trainer, stage, {})
    layer = trainer.model.base_model.model.model.layers[0].mlp.up_proj
    added = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    saved = load_model(str(stage.model_path)).model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(saved, layer.base_layer.weight.float() + added)
    assert layer.base_layer.weight.dtype == torch.bfloat16, "the trainer's own model goes on as it was"
