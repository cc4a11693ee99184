"""One method in a process of its own: it loads, then does a step for every line that it reads, and says what it took.

A process each, so that peak memory is that of one method alone; steps on demand, so that methods can take turns.
"""

import json
import sys
import tempfile
import time
from contextlib import nullcontext

import torch

from benchmarks.methods import Case, make_trainer
from helpers.runs import Memory, matmul_gflops
from helpers.training import ORPOTrainer
from helpers.training.autocast import adapters_cast_once, round_frozen


def main(case: Case) -> None:
    trainer, optimizer, batches = ready(case)
    memory = Memory()
    flops = model_flops(case, trainer, batches) if case.method == "ours" else None
    say(ready=True, row_tokens=tokens(batches) / len(batches), flops=flops)
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        loss = one_step(trainer, optimizer, batches[number % len(batches)])
        seconds = time.perf_counter() - started
        say(seconds=seconds, loss=loss.item(), peak_bytes=memory.peak(), gflops=matrix_peak(case))


def ready(case: Case) -> tuple:
    """The trainer of a case in training mode, an AdamW for what it trains, and its batches."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(case, folder)
    if isinstance(trainer, ORPOTrainer):
        round_frozen(trainer)  # as the notebooks do
    trained = [parameter for parameter in trainer.model.train().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    return trainer, optimizer, list(trainer.get_train_dataloader())[: case.batches]


def one_step(trainer, optimizer, batch: dict) -> torch.Tensor:
    """The loss of a batch, its gradients, and the optimizer's step, all of them done when this returns."""
    ours = isinstance(trainer, ORPOTrainer)
    with adapters_cast_once(trainer) if ours else nullcontext():  # as in our training_step
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return loss


def matrix_peak(case: Case) -> float:
    """What this machine reaches in matrix products of the case's own number format, in GFLOP a second."""
    dtype = torch.bfloat16 if case.bf16 else getattr(torch, case.weights)
    return matmul_gflops(0.2, dtype)


def tokens(batches: list[dict]) -> int:
    """Positions that the model computes for all batches, padding included (a shared row runs without its padding)."""
    total = 0
    for batch in batches:
        if "segment_ids" in batch:
            total += int((batch["segment_ids"] >= 0).sum())
        elif "chosen_input_ids" in batch:  # TRL pads both sides to the longer one
            sides = [batch[f"{side}_input_ids"] for side in ("chosen", "rejected")]
            total += 2 * len(sides[0]) * max(side.shape[1] for side in sides)
        else:
            total += batch["input_ids"].numel()
    return total


def model_flops(case: Case, trainer, batches: list[dict]) -> float:
    """What our layout computes in a mean step: 6 FLOPs a weight and token, 4 under LoRA, whose base gets no gradient.

    The head is counted for response tokens only and attention not at all: a lower bound.
    """
    scored = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
    head = trainer.model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for name, p in trainer.model.named_parameters() if "lora_" not in name)
    body -= head if trainer.model.config.tie_word_embeddings else 2 * head
    return (4 if case.lora_rank else 6) * (body * tokens(batches) + head * scored) / len(batches)


def say(**values) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])))
