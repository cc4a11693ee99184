"""What SFT and ORPO share, so that only the objective differs: training arguments, adapter, settings, summary."""

import os
import time
from pathlib import Path

import torch
from peft import LoraConfig

from helpers.data.collate import PreferenceCollator
from helpers.data.tokenize import tokenize_preferences
from helpers.files import read_json
from helpers.objective.logprobs import pair_logps
from helpers.objective.odds_ratio import orpo_loss
from helpers.runs import limits
from helpers.runs.machine import fast_bf16, peak_memory_bytes
from helpers.runs.memory import release_memory

PAIRS_A_BATCH = 8
SCARCE = 4 * 2**30  # bytes, with the base model loaded: a machine of 4 GiB has less


def training_arguments(profile, run, stage) -> dict:
    """The keyword arguments that SFT and ORPO share, so that only the objective differs between the two runs.

    Where the run's machine multiplies faster in bf16, both train under autocast: weights and sums stay float32.
    """
    # transformers keeps the precision of a process's last config here, and a later `bf16=False` would not undo it
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    return {
        "output_dir": str(stage.checkpoints),
        "max_steps": profile.steps,
        "per_device_train_batch_size": (together := pairs_at_once(profile, stage)),
        "gradient_accumulation_steps": profile.pairs_per_step // together,
        "learning_rate": profile.learning_rate,
        "warmup_steps": max(1, profile.steps // 20),
        "max_length": profile.max_length,
        "logging_steps": 1,
        "save_steps": profile.save_every,
        "save_total_limit": 1,
        "seed": profile.seed,
        "optim": "adamw_torch_fused",
        "bf16": fast_bf16(run.measured_machine()),
        "use_cpu": training_device() == "cpu",
        "gradient_checkpointing": False,
        "disable_tqdm": True,  # LiveMonitor shows the progress
        "report_to": [],
    }


def pairs_at_once(profile, stage) -> int:
    """Pairs of a step whose activations are in memory together: half where less than `SCARCE` bytes are free.

    The update is the same up to rounding. A stopped stage goes on as it began: Trainer takes a batch's size from the
    checkpoint and the number of batches from the arguments.
    """
    pairs = profile.pairs_per_step
    if checkpoint := stage.last_checkpoint():
        began = read_json(Path(checkpoint) / "trainer_state.json", {}).get("train_batch_size")
        return began if began and pairs % began == 0 else pairs
    if training_device() != "cpu" or pairs % 2:
        return pairs
    return pairs // 2 if limits.free_memory() < SCARCE else pairs


def training_device() -> str:
    """Where notebooks train: a CUDA GPU where there is one and nobody asked for the CPU."""
    return "cpu" if os.environ.get("WORKSHOP_BACKEND") == "cpu" or not torch.cuda.is_available() else "cuda"


def lora(profile) -> LoraConfig | None:
    """The adapter of a profile; None where its rank is 0, which trains every weight."""
    return lora_config(profile.lora_rank) if profile.lora_rank else None


def lora_config(rank: int, target_modules="all-linear", task_type: str = "CAUSAL_LM") -> LoraConfig:
    """Train small matrices beside every linear layer of the frozen base: a third less work a step, and no optimizer
    state for the base (LoRA, arXiv 2106.09685). The scale is alpha / rank = 2.

    Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"the rank of a LoRA adapter is {rank}: give 1 or more, or 0 to train every weight")
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target_modules, task_type=task_type)


def stage_settings(profile, run, method: str) -> dict:
    """What decides a training run. A stage is named by it, and a stopped one resumed only if all of it is unchanged."""
    names = [
        "model",
        "train_pairs",
        "max_length",
        "steps",
        "pairs_per_step",
        "learning_rate",
        "lora_rank",
        "beta",
        "seed",
    ]
    settings = {name: getattr(profile, name) for name in names if (name, method) != ("beta", "sft")}
    return {"method": method, "source": run.source, "bf16": fast_bf16(run.measured_machine())} | settings


def price_of_a_step(trainer, pairs) -> dict[str, tuple[float, float]]:
    """{way: (loss, seconds)} of one forward and backward pass: as in a textbook, and as this ORPOTrainer does it.

    The textbook's way takes one pair after the other and adds up the gradients. That is the same loss, and the logits
    of all pairs at once would take most of the memory of the notebook. This trainer's takes as many as in training.
    """
    args, tokenizer = trainer.args, trainer.processing_class
    rows = list(tokenize_preferences(pairs, tokenizer, args.max_length))
    ways = {"textbook: two rows, all logits": ("rows", False), "this trainer": (args.layout, trainer.chunked)}
    measured = {}
    for timed in (False, True, True):  # a round to warm up, then two, since one alone may meet a busy moment
        for name, (layout, chunked) in ways.items():
            together = args.per_device_train_batch_size if chunked else 1
            parts = [rows[start : start + together] for start in range(0, len(rows), together)]
            collate = PreferenceCollator(tokenizer.pad_token_id, layout)
            batches = [trainer._prepare_inputs(collate(part)) for part in parts]
            started, shown = time.perf_counter(), 0.0
            for part, batch in zip(parts, batches, strict=True):
                chosen, rejected = pair_logps(trainer.model, batch, chunked)
                loss = orpo_loss(-chosen, chosen, rejected, args.beta) * (len(part) / len(rows))
                loss.backward()
                shown += loss.item()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            trainer.model.zero_grad()
            if timed:
                measured[name] = (shown, min(seconds, measured.get(name, (0, seconds))[1]))
    release_memory()
    return measured


def pairs_of_a_step(args) -> int:
    """Pairs that an update sees, in one process."""
    return args.per_device_train_batch_size * args.gradient_accumulation_steps


def training_summary(trainer, monitor) -> dict:
    """Seconds of training alone (the live measurements taken out), tokens a second, steps, memory."""
    seconds = trainer.state.log_history[-1].get("train_runtime", 0) - monitor.seconds_spent
    return summary_of(trainer, seconds, monitor.first_step)


def summary_of(trainer, seconds: float, first_step: int) -> dict:
    """What a training took, in `seconds` from `first_step` on: a resumed one is timed from where it resumed."""
    state, args, rows = trainer.state, trainer.args, trainer.train_dataset
    steps, pairs = state.global_step - first_step, pairs_of_a_step(args) * copies_of(args)
    a_step = seconds / steps if seconds > 0 and steps else None  # none where only a checkpoint was read
    column = next(name for name in ("input_ids", "chosen_input_ids") if name in rows.column_names)
    tokens = sum(len(ids) for ids in rows[column]) / len(rows) * pairs
    return {
        "train_seconds": a_step and a_step * state.global_step,
        "train_tokens_per_second": a_step and tokens / a_step,
        "resumed_from_step": first_step,
        "precision": "bf16 autocast" if args.bf16 else "float32",
        "layout": getattr(args, "layout", "rows"),
        "steps": state.global_step,
        "pairs": state.global_step * pairs,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def copies_of(args) -> int:
    """How many processes, or groups of NeuronCores, have a copy of the model and pairs of their own."""
    return args.trn_config.data_parallel_size if hasattr(args, "trn_config") else args.world_size
