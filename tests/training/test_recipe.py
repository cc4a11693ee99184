"""What SFT and ORPO share: the adapter and the arguments."""

from dataclasses import replace

import pytest
import torch
from datasets import concatenate_datasets

from helpers.runs import limits
from helpers.runs.folder import Run
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import SCARCE, lora, lora_config, pairs_at_once, training_arguments

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


def test_where_memory_is_scarce_a_step_takes_its_pairs_in_two_parts(tmp_path, monkeypatch):
    stage = Run(tmp_path / "run", SMOKE).stage("sft")
    monkeypatch.setattr(limits, "free_memory", lambda: SCARCE)
    assert pairs_at_once(SMOKE, stage) == SMOKE.pairs_per_step == 4
    monkeypatch.setattr(limits, "free_memory", lambda: 0)
    assert pairs_at_once(SMOKE, stage) == 2
    assert pairs_at_once(replace(SMOKE, pairs_per_step=3), stage) == 3, "an odd number stays together"


def test_the_parts_make_the_same_model_and_a_stopped_stage_goes_on_in_those_it_began_with(
    tmp_path, tokenized, tokenizer, monkeypatch
):
    """Four steps of four pairs: at once; in two parts; in two parts, stopped, and gone on with where memory is free."""
    rows = concatenate_datasets([tokenized] * 4)  # one epoch
    models = {}
    for name, memory in {"at once": [SCARCE], "parts": [0], "gone on": [0, SCARCE]}.items():
        run = Run(tmp_path / name, SMOKE)
        run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
        stage = run.stage("orpo")
        for free, steps in zip(memory, [4] if len(memory) == 1 else [2, 4], strict=True):
            monkeypatch.setattr(limits, "free_memory", lambda free=free: free)
            arguments = training_arguments(SMOKE, run, stage) | {"save_steps": 2, "lr_scheduler_type": "constant"}
            args = ORPOConfig(**arguments | {"max_steps": steps})
            assert args.per_device_train_batch_size == (4 if name == "at once" else 2)
            trainer = ORPOTrainer(smoke_model(0), args, rows, processing_class=tokenizer)
            trainer.train(resume_from_checkpoint=stage.last_checkpoint())
        models[name] = dict(trainer.model.named_parameters())
    for name in ("parts", "gone on"):
        for weight, values in models["at once"].items():
            torch.testing.assert_close(models[name][weight], values, rtol=1e-4, atol=1e-4)


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


def test_a_config_in_bf16_leaves_the_next_one_in_float32(tmp_path, tokenized, tokenizer):
    """transformers 4.57: TrainingArguments(bf16=True) sets a variable of the process that bf16=False doesn't unset."""
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(machine={"gflops": 1.0, "bf16_gflops": 1.0})
    ORPOConfig(output_dir=str(tmp_path), bf16=True, use_cpu=True, report_to=[])
    args = ORPOConfig(**training_arguments(SMOKE, run, run.stage("orpo")))
    trainer = ORPOTrainer(smoke_model(0), args, tokenized, processing_class=tokenizer)
    assert not args.bf16 and trainer.accelerator.mixed_precision == "no"
