"""The peak memory of one technique, in a process of its own, beside the estimate of `costs`.

`measured(case)` starts `python -m helpers.techniques.measure '{…}'`, which loads the base, notes the memory, trains a
few steps with the technique's own trainer, and says how high it went. All answers have the same length, so that the
estimate speaks of the same step.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace

import torch

from helpers.data.synthetic import random_pairs
from helpers.data.tokenize import response_tokens, tokenize_preferences
from helpers.files import REPOSITORY
from helpers.objective.shared_row import common_beginning
from helpers.runs.memory import EXACT, Memory, Sampler
from helpers.techniques import costs, trainers
from helpers.techniques.budgets import BUDGETS
from helpers.training.base_model import MADE, find_base_model, load_model, load_tokenizer
from helpers.training.profiles import PROFILES
from helpers.training.sizes import Sizes
from helpers.training.step_memory import TECHNIQUES

STEPS = 3  # from the second on, the optimizer's moments are there
MAX_LENGTH = 4096  # nothing is cut


@dataclass(frozen=True)
class Case:
    """A stage of a technique on `pairs` pairs of made-up words; lengths in tokens, without the chat template's."""

    technique: str
    pairs: int = 4
    prompt: int = 64
    response: int = 64
    lora_rank: int = 0
    model: str = "packaged"
    seed: int = 0


def measured(case: Case) -> dict:
    """Peak bytes above the loaded base, sampled and reported, with the estimate; a RuntimeError shows what failed."""
    command = [sys.executable, "-m", "helpers.techniques.measure", json.dumps(asdict(case))]
    process = subprocess.run(command, cwd=REPOSITORY, env=os.environ | EXACT, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"measuring {case} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main(case: Case) -> dict:
    """Load, note, train, and say."""
    path, _ = find_base_model(case.model)
    tokenizer = load_tokenizer(path)
    pairs = random_pairs(tokenizer, case.pairs * STEPS, case.prompt, case.response, case.seed)
    with tempfile.TemporaryDirectory() as folder:
        if path in MADE:  # a reward model and RLHF's reference are read from a folder
            load_model(path).save_pretrained(f"{folder}/base")
            path = f"{folder}/base"
        model = load(case, path, tokenizer)
        memory = Memory()
        trainer = make_trainer(case, folder, path, model, tokenizer, pairs)
        with Sampler(memory) as sampler:
            trainer.train()
        peak = memory.peak()
    step = step_of(case, pairs, tokenizer, trainer.model)
    technique = TECHNIQUES.get(case.technique)
    return {
        "case": asdict(case),
        "step": asdict(step),
        "peak_bytes": peak,
        "sampled_bytes": sampler.highest,
        "estimate": costs.estimate(technique, Sizes.of(model), step) if technique else None,
    }


def step_of(case: Case, pairs, tokenizer, model) -> costs.Step:
    """The lengths that the pairs have as tokens, template included, and the weights of the adapter."""
    rows = list(tokenize_preferences(pairs, tokenizer, MAX_LENGTH))
    prompt, response = rows[0]["prompt_length"], response_tokens(rows[0], "chosen")
    return costs.Step(case.pairs, prompt, response, len(common_beginning(rows)), lora_weights(model))


def load(case: Case, path: str, tokenizer):
    """The model that the stage trains, where it trains, its weights in memory of their own (a mapped file may go)."""
    model = trainers.reward_model(path, tokenizer) if case.technique == "reward" else load_model(path)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def make_trainer(case: Case, folder: str, path: str, model, tokenizer, pairs):
    """The technique's trainer, as `comparison` makes it, for a few steps."""
    profile = replace(PROFILES["laptop"], lora_rank=case.lora_rank, max_length=MAX_LENGTH)
    sizes = {"pairs": case.pairs * STEPS, "pairs_per_step": case.pairs, "sampled_tokens": case.response}
    arguments = {
        "output_dir": f"{folder}/out",
        "max_steps": STEPS,
        "per_device_train_batch_size": case.pairs,
        "learning_rate": 1e-5,
        "max_length": MAX_LENGTH,
        "optim": "adamw_torch_fused",
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
    }
    job = trainers.Job(model, tokenizer, pairs, profile, replace(BUDGETS["laptop"], **sizes), arguments, [])
    if case.technique == "rlhf":
        return trainers.rloo_trainer(job, trainers.reward_model(path, tokenizer))
    if case.technique.startswith("dpo"):
        return trainers.dpo_trainer(job, precompute=case.technique == "dpo-precomputed")
    if case.technique == "orpo-rows":
        return trainers.orpo_trainer(job, layout="rows", chunked=False)
    return getattr(trainers, f"{case.technique}_trainer")(job)


def lora_weights(model) -> int:
    """Weights of the adapter; 0 where all of the model is trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained if hasattr(model, "peft_config") else 0


if __name__ == "__main__":
    print(json.dumps(main(Case(**json.loads(sys.argv[1])))))
