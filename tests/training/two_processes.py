"""Trains a tiny model in several ways and writes what was logged: `two_processes.py OUTPUT`, or with torchrun."""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig

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


def pairs(count: int) -> Dataset:
    """Pairs of very unlike lengths, so that processes have unlike numbers of shared rows."""
    rows = [
        {"prompt": f"Question {i}", "chosen": "yes " * (1 + 37 * i % 90), "rejected": "no " * (2 + 61 * i % 80)}
        for i in range(count)
    ]
    return Dataset.from_list(rows)


def run(folder: str, method: str, lora: bool = False, rows: int = 10, **settings) -> dict:
    """What one way logs: the training lines, and for pairs an evaluation of 7 of them; the model is saved."""
    size = GLOBAL_BATCH // int(os.environ.get("WORLD_SIZE", 1))
    settings |= {"per_device_train_batch_size": size, "per_device_eval_batch_size": size, "num_train_epochs": 2}
    settings |= {"learning_rate": 1e-3, "max_length": 192, "logging_steps": 1, "save_strategy": "no", "report_to": []}
    settings |= {"output_dir": folder, "disable_tqdm": True, "use_cpu": True}
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    tokenizer = load_tokenizer("smoke")
    train, held_out = (tokenize_preferences(as_conversations(pairs(n)), tokenizer, 192) for n in (rows, 7))
    given = {"processing_class": tokenizer, "peft_config": adapter}
    if method == "sft":
        trainer = sft_trainer(settings, sft_features(train), given)
    else:
        config, kind = {"orpo": (ORPOConfig, ORPOTrainer), "dpo": (DPOConfig, DPOTrainer)}[method]
        trainer = kind(smoke_model(0), config(beta=0.5, **settings), train, held_out, **given)
    trainer.train()
    trainer.save_model(f"{folder}/model")
    lines = [{name: line[name] for name in LOGGED[method]} for line in trainer.state.log_history if "loss" in line]
    if method == "sft":
        return {"train": lines, "eval": {}}
    return {"train": lines, "eval": {name: trainer.evaluate()[f"eval_{name}"] for name in ("loss", "rewards/margins")}}


def sft_trainer(settings: dict, features: Dataset, given: dict):
    """SFT's, with what scripts/train.py sets."""
    from trl import SFTConfig

    from helpers.training.sft import SFTTrainer

    plain = {"bf16": False, "completion_only_loss": True, "gradient_checkpointing": False}
    return SFTTrainer(smoke_model(0), SFTConfig(**plain | settings), train_dataset=features, **given)


if __name__ == "__main__":
    output = Path(sys.argv[1])
    found = {name: run(str(output / name), name.split()[0], **settings) for name, settings in WAYS.items()}
    (output / f"rank{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
