"""Trains a tiny model in several ways and writes what was logged: `two_processes.py OUTPUT`, or with torchrun."""

import itertools
import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from transformers import EarlyStoppingCallback, TrainerCallback

from helpers.data import sft_features, tokenize_preferences
from helpers.training.arguments import as_conversations
from helpers.training.base_model import load_tokenizer, smoke_model
from helpers.training.dpo import DPOConfig, DPOTrainer
from helpers.training.orpo import ORPOConfig, ORPOTrainer

GLOBAL_BATCH = 4
WAYS = {  # 10 pairs: the last batch of an epoch has 2, the last update of an accumulation is smaller
    "orpo shared": {},
    "orpo rows": {"layout": "rows"},
    "orpo accumulation": {"gradient_accumulation_steps": 2},
    "orpo lora": {"lora": True, "gradient_checkpointing": True},
    "orpo stopped": {"stops": True},
    "dpo": {"rows": 9},  # of the last batch, one process has nothing
    "dpo rows accumulation": {"layout": "rows", "gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    "dpo lora": {"lora": True},
    "sft": {"rows": 9},
    "sft accumulation": {"gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    "sft lora": {"lora": True},
}
LOGGED = {
    "orpo": ("loss", "grad_norm", "rewards/margins", "nll_loss", "logps/rejected"),
    "dpo": ("loss", "grad_norm", "rewards/margins", "rewards/accuracies", "logps/chosen"),
    "sft": ("loss", "grad_norm", "entropy", "num_tokens", "mean_token_accuracy"),
}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "eval_rewards/margins", "greater_is_better": True}
BEST |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}


class Losses(TrainerCallback):
    """The training losses of all processes as they are: Trainer rounds those that it logs."""

    def __init__(self, trainer):
        self.trainer, self.totals = trainer, [0.0]

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            self.totals.append(self.trainer._total_loss_scalar)

    def __iter__(self):
        return (later - earlier for earlier, later in itertools.pairwise(self.totals))


def pairs(count: int, backwards: bool = False) -> Dataset:
    """Pairs of very unlike lengths, so that processes have unlike numbers of shared rows; tokenised.

    `backwards`: the answers change places, so that what is good in training is bad here.
    """
    rows = [(f"Question {i}", "yes " * (1 + 37 * i % 90), "no " * (2 + 61 * i % 80)) for i in range(count)]
    names = ("prompt", "rejected", "chosen") if backwards else ("prompt", "chosen", "rejected")
    texts = Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows])
    return tokenize_preferences(as_conversations(texts), load_tokenizer("smoke"), 192)


def run(folder: str, method: str, lora: bool = False, rows: int = 10, stops: bool = False, **settings) -> dict:
    """What one way logs: the training lines, and evaluations of 7 rows and of 5; the model is saved.

    `stops`: training ends when the margin of an evaluation falls, which it does from the first step on.
    """
    size = GLOBAL_BATCH // int(os.environ.get("WORLD_SIZE", 1))
    settings |= {"per_device_train_batch_size": size, "per_device_eval_batch_size": size, "num_train_epochs": 2}
    settings |= {"learning_rate": 1e-3, "max_length": 192, "logging_steps": 1, "save_strategy": "no", "report_to": []}
    settings |= {"output_dir": folder, "disable_tqdm": True, "use_cpu": True} | (BEST if stops else {})
    given = {"processing_class": load_tokenizer("smoke"), "train_dataset": pairs(rows)}
    given["eval_dataset"] = pairs(7, backwards=True) if stops else {"seven": pairs(7), "five": pairs(5)}
    given["peft_config"] = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    given["callbacks"] = [EarlyStoppingCallback(2)] if stops else None
    if method == "sft":
        trainer = sft_trainer(settings, given)
    else:
        config, kind = {"orpo": (ORPOConfig, ORPOTrainer), "dpo": (DPOConfig, DPOTrainer)}[method]
        trainer = kind(smoke_model(0), config(beta=0.5, **settings), **given)
    trainer.add_callback(losses := Losses(trainer))
    trainer.train()
    trainer.save_model(f"{folder}/model")
    lines = [{name: line[name] for name in LOGGED[method]} for line in trainer.state.log_history if "loss" in line]
    lines = [line | {"loss": loss} for line, loss in zip(lines, losses, strict=True)]
    best = {"best": trainer.state.best_metric} if stops else {}
    return {"train": lines, "eval": evaluated(trainer) | best}


def evaluated(trainer) -> dict:
    """What every evaluation logs, which for SFT is more than it returns; without times."""
    before = len(trainer.state.log_history)
    trainer.evaluate()
    lines = enumerate(trainer.state.log_history[before:])
    left_out = ("runtime", "per_second", "epoch", "step")
    return {f"{i} {name}": line[name] for i, line in lines for name in line if not name.endswith(left_out)}


def sft_trainer(settings: dict, given: dict):
    """SFT's, with what scripts/train.py sets."""
    from trl import SFTConfig

    from helpers.training.sft import SFTTrainer

    given["train_dataset"] = sft_features(given["train_dataset"])
    given["eval_dataset"] = {name: sft_features(rows) for name, rows in given["eval_dataset"].items()}
    plain = {"bf16": False, "completion_only_loss": True, "gradient_checkpointing": False}
    return SFTTrainer(smoke_model(0), SFTConfig(**plain | settings), **given)


if __name__ == "__main__":
    output = Path(sys.argv[1])
    found = {name: run(str(output / name), name.split()[0], **settings) for name, settings in WAYS.items()}
    (output / f"rank{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
