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
from pathlib import Path

from helpers.cache import REPOSITORY
from helpers.memory import EXACT, Memory, Sampler
from helpers.techniques import costs

STEPS = 3  # from the second on, the optimizer's moments are there


@dataclass(frozen=True)
class Case:
    """A stage of a technique on `pairs` pairs of made-up words; lengths in tokens, without the chat template's."""

    technique: str
    pairs: int = 4
    prompt: int = 64
    response: int = 64
    lora_rank: int = 0
    model: str = "packaged"


def measured(case: Case) -> dict:
    """Peak bytes above the loaded base, sampled and reported, with the estimate; a RuntimeError shows what failed."""
    command = [sys.executable, "-m", "helpers.techniques.measure", json.dumps(asdict(case))]
    process = subprocess.run(command, cwd=REPOSITORY, env=os.environ | EXACT, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"measuring {case} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main(case: Case) -> dict:
    """Load, note, train, and say."""
    from helpers.models import find_base_model, load_model, load_tokenizer
    from helpers.preferences import common_beginning, tokenize_preferences

    path, _ = find_base_model(case.model)
    tokenizer = load_tokenizer(path)
    pairs = made_up_pairs(tokenizer, case)
    with tempfile.TemporaryDirectory() as folder:
        if case.technique in ("reward", "rlhf") or case.model == "smoke":
            load_model(path).save_pretrained(folder + "/base")
            tokenizer.save_pretrained(folder + "/base")
            path = folder + "/base"
        model = load(case, path, tokenizer)
        memory = Memory()
        trainer = make_trainer(case, folder, path, model, tokenizer, pairs)
        with Sampler(memory) as sampler:
            trainer.train()
    rows = list(tokenize_preferences(pairs, tokenizer, 4096))
    prompt, longest = rows[0]["prompt_length"], len(rows[0]["chosen_input_ids"])
    common = len(common_beginning(rows))
    step = costs.Step(case.pairs, prompt, longest - prompt, common, lora_weights(trainer.model))
    technique = costs.TECHNIQUES.get(case.technique)
    return {
        "case": asdict(case),
        "step": asdict(step),
        "peak_bytes": memory.peak(),
        "sampled_bytes": sampler.highest,
        "estimate": costs.estimate(technique, costs.Sizes.of(model), step) if technique else None,
    }


def load(case: Case, path: str, tokenizer):
    """The model that the stage trains, its weights in memory of their own (a file that is mapped may come and go)."""
    from helpers.models import load_model
    from helpers.techniques.trainers import reward_model

    model = reward_model(path, tokenizer) if case.technique == "reward" else load_model(path)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def make_trainer(case: Case, folder: str, path: str, model, tokenizer, pairs):
    """The technique's trainer, as `comparison` makes it, for a few steps."""
    import torch

    from helpers.profiles import PROFILES
    from helpers.techniques import trainers
    from helpers.techniques.budgets import BUDGETS

    profile = replace(PROFILES["laptop"], lora_rank=case.lora_rank, max_length=4096)
    sizes = {"pairs": case.pairs * STEPS, "pairs_per_step": case.pairs, "sampled_tokens": case.response}
    budget = replace(BUDGETS["laptop"], **sizes)
    arguments = {
        "output_dir": str(Path(folder) / "out"),
        "max_steps": STEPS,
        "per_device_train_batch_size": case.pairs,
        "learning_rate": 1e-5,
        "max_length": 4096,
        "optim": "adamw_torch_fused",
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
    }
    job = trainers.Job(model, tokenizer, pairs, profile, budget, arguments, [])
    if case.technique == "rlhf":
        return trainers.rloo_trainer(job, trainers.reward_model(path, tokenizer))
    if case.technique.startswith("dpo"):
        return trainers.dpo_trainer(job, precompute=case.technique == "dpo-precomputed")
    if case.technique == "orpo-rows":
        return trainers.orpo_trainer(job, layout="rows", lean=False)
    return getattr(trainers, f"{case.technique}_trainer")(job)


def made_up_pairs(tokenizer, case: Case):
    """Pairs of random words, all of the same length in tokens."""
    from helpers.preferences import random_pairs

    return random_pairs(tokenizer, case.pairs * STEPS, case.prompt, case.response)


def lora_weights(model) -> int:
    """Weights of the adapter; 0 where all of the model is trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained if hasattr(model, "peft_config") else 0


if __name__ == "__main__":
    print(json.dumps(main(Case(**json.loads(sys.argv[1])))))
