"""What SFT and ORPO share: the adapter, the merged model, and cells that are run a second time."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from helpers.runs.folder import Run
from helpers.show.widgets import LiveMonitor
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, lora_config, merged_model, refuse_trained, training_arguments

SMOKE = replace(PROFILES["smoke"], steps=1)


def test_a_rank_of_zero_trains_every_weight_and_a_negative_one_is_refused():
    assert lora(replace(SMOKE, lora_rank=0)) is None
    assert (lora(SMOKE).r, lora(SMOKE).lora_alpha) == (4, 8)
    with pytest.raises(ValueError, match="rank of a LoRA adapter is -1: give 1 or more, or 0"):
        lora_config(-1)


def test_a_gpu_is_left_unused_where_the_cpu_was_asked_for(tmp_path, monkeypatch):
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not training_arguments(SMOKE, run, run.stage("sft"))["use_cpu"]
    monkeypatch.setenv("WORKSHOP_BACKEND", "cpu")
    assert training_arguments(SMOKE, run, run.stage("sft"))["use_cpu"]


def test_what_orpo_can_not_follow_is_refused(tmp_path, tokenized, tokenizer):
    quiet = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": []}
    with pytest.raises(ValueError, match="label_smoothing_factor can't be followed"):
        ORPOConfig(**quiet, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="compute_metrics can't be followed: ORPOTrainer computes its own loss"):
        ORPOTrainer(
            model=smoke_model(),
            args=ORPOConfig(**quiet),
            train_dataset=tokenized,
            processing_class=tokenizer,
            compute_metrics=print,
        )


@pytest.fixture
def trained(tmp_path, tokenized, tokenizer):
    """(stage, trainer) after one step, with the callback of the notebooks."""
    stage = Run(tmp_path / "run", SMOKE).stage("orpo")
    stage.start({})
    args = ORPOConfig(output_dir=str(stage.checkpoints), max_steps=1, max_length=128, use_cpu=True, report_to=[])
    model = smoke_model()
    trainer = ORPOTrainer(
        model=model, args=args, train_dataset=tokenized, processing_class=tokenizer, peft_config=lora(SMOKE)
    )
    trainer.train(resume_from_checkpoint=stage.last_checkpoint())
    return stage, trainer


def test_the_training_cell_run_twice_is_one_line(trained):
    stage, trainer = trained
    merged_model(trainer, stage)
    with pytest.raises(RuntimeError, match="orpo is trained already, its model is in orpo/model: to train it again"):
        trainer.train(resume_from_checkpoint=stage.last_checkpoint())


def test_a_model_that_was_trained_is_not_taken_for_the_base(trained, tmp_path):
    stage, trainer = trained
    model = merged_model(trainer, stage)
    refuse_trained(smoke_model())
    again = Run(tmp_path / "again", SMOKE).stage("orpo")
    args = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to=[])
    rows = Dataset.from_dict({"input_ids": [[1, 2]], "labels": [[1, 2]]})
    trainer = Trainer(model=model, args=args, train_dataset=rows, callbacks=[LiveMonitor([], again, every=1)])
    with pytest.raises(RuntimeError, match="trained already, as orpo: run the notebook again from its first cell"):
        trainer.train()


def test_a_merged_model_is_what_was_trained(trained):
    stage, trainer = trained
    batch = {"input_ids": torch.tensor([[5, 6, 7]])}
    trainer.model.eval()
    with torch.no_grad():
        before = trainer.model(**batch).logits
        after = merged_model(trainer, stage).eval()(**batch).logits
    assert torch.allclose(before, after, atol=1e-5) and (stage.model_path / "model.safetensors").is_file()


def test_a_config_in_bf16_leaves_the_next_one_in_float32(tmp_path, tokenized, tokenizer):
    """transformers 4.57: TrainingArguments(bf16=True) sets a variable of the process that bf16=False doesn't unset."""
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
    ORPOConfig(output_dir=str(tmp_path), bf16=True, use_cpu=True, report_to=[])
    args = ORPOConfig(**training_arguments(SMOKE, run, run.stage("orpo")))
    trainer = ORPOTrainer(smoke_model(0), args, tokenized, processing_class=tokenizer)
    assert not args.bf16 and trainer.accelerator.mixed_precision == "no"
