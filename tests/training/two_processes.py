"""Trains a tiny model in several ways and writes what was logged: `two_processes.py OUTPUT`, or with torchrun."""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig

from helpers.training.base_model import load_tokenizer, smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer

GLOBAL_BATCH = 4
WAYS = {  # 10 pairs: the last batch of an epoch has 2, the last update of an accumulation is smaller
    "shared": {},
    "rows": {"layout": "rows"},
    "accumulation": {"gradient_accumulation_steps": 2},
    "lora": {"lora": True, "gradient_checkpointing": True},
}


def pairs(count: int) -> Dataset:
    """Pairs of very unlike lengths, so that processes have unlike numbers of shared rows."""
    rows = [
        {"prompt": f"Question {i}", "chosen": "yes " * (1 + 37 * i % 90), "rejected": "no " * (2 + 61 * i % 80)}
        for i in range(count)
    ]
    return Dataset.from_list(rows)


def run(folder: str, lora: bool = False, **settings) -> dict:
    """What one way logs: the training lines, and an evaluation of 7 pairs after them."""
    size = GLOBAL_BATCH // int(os.environ.get("WORLD_SIZE", 1))
    args = ORPOConfig(
        output_dir=folder,
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        num_train_epochs=2,
        learning_rate=1e-3,
        beta=0.5,
        max_length=192,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    trainer = InOrder(smoke_model(0), args, pairs(10), pairs(7), load_tokenizer("smoke"), peft_config=adapter)
    trainer.train()
    lines = [{name: line[name] for name in LOGGED} for line in trainer.state.log_history if "loss" in line]
    return {"train": lines, "eval": {name: trainer.evaluate()[f"eval_{name}"] for name in ("loss", "rewards/margins")}}


LOGGED = ("loss", "grad_norm", "rewards/margins", "nll_loss")


class InOrder(ORPOTrainer):
    """Takes the pairs in their order, so that both sides make the same batches whatever the layout."""

    def _get_train_sampler(self, *args, **kwargs):
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self.train_dataset)


if __name__ == "__main__":
    output = Path(sys.argv[1])
    found = {name: run(str(output / name), **settings) for name, settings in WAYS.items()}
    (output / f"rank{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
