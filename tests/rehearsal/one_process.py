"""What transformers and PEFT say of the trainings of `several`, in one process, and how far those are from it."""

import math
import zlib
from functools import cache
from pathlib import Path

import torch

from tests.rehearsal.several import BATCH, BETA, CASE, LENGTH, PAIRS, SETTINGS, small_pairs

small_pairs = cache(small_pairs)
_retrained = {}  # what a training begins with → what `retrained` returned for it
LAST_DIGIT = 6e-5  # a loss is logged with four digits after the point


def ordinary(case: dict, folder: Path, when: str):
    """The model of a case in transformers, float32: as it was `first`, or as it was saved `last`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    case = CASE | case
    if not case["lora"]:
        path = case["path"] if when == "first" else folder / case["name"] / when
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(case["path"], dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder / case["name"] / when, is_trainable=True)
    for name, module in list(model.named_modules()):
        if name.endswith(".mlp"):  # Optimum Neuron has one matrix A for gate and up together
            module.up_proj.lora_A["default"] = module.gate_proj.lora_A["default"]
    return model.float()


def loss_of(model, case: dict, rows: list[dict], reference=None) -> torch.Tensor:
    """The objective of a case on some pairs, all of one rank; `reference` is DPO's model."""
    from helpers.data.collate import PreferenceCollator
    from helpers.objective.logprobs import pair_logps
    from helpers.objective.odds_ratio import orpo_loss

    batch = PreferenceCollator(0, "rows", LENGTH)(rows)
    if case["method"] == "sft":  # transformers' own: a mean over the tokens of all answers
        return model(**{name: batch[name][: len(rows)] for name in ("input_ids", "attention_mask", "labels")}).loss
    chosen, rejected = pair_logps(model, batch)
    if case["method"] == "orpo":
        return orpo_loss(-chosen, chosen, rejected, BETA)
    with torch.no_grad():
        before = pair_logps(reference, batch)
    counts = (batch["labels"] != -100).sum(dim=1).chunk(2)
    gained = [(now - then) * n for now, then, n in zip((chosen, rejected), before, counts, strict=True)]
    return -torch.nn.functional.logsigmoid(BETA * (gained[0] - gained[1])).mean()


def retrained(case: dict, folder: Path, processes: int = 2) -> dict:
    """The same training in plain PyTorch: its losses, and the gradients of its first step by their ordinary names.

    Cases that differ only in what plain PyTorch has not (layout, tensor parallelism, bf16) share one training.
    """
    case = CASE | case
    adapter = folder / case["name"] / "first" / "adapter_model.safetensors"
    start = zlib.crc32(adapter.read_bytes()) if case["lora"] else 0
    ranks = processes // case["tensor_parallel_size"]
    key = (case["path"], start, case["method"], case["max_steps"], ranks)
    if key not in _retrained:
        _retrained[key] = retrain(case, folder, ranks)
    return _retrained[key]


def retrain(case: dict, folder: Path, ranks: int) -> dict:
    """`retrained`, of a case with all its settings and so many data-parallel ranks."""
    pairs, model, reference = small_pairs(), ordinary(case, folder, "first"), ordinary(case, folder, "first")
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([p for _, p in trained], lr=SETTINGS["learning_rate"], weight_decay=0.0)
    losses, first = [], None
    for step in range(case["max_steps"]):
        rows = [pairs[i % PAIRS] for i in range(step * BATCH * ranks, (step + 1) * BATCH * ranks)]
        loss = sum(loss_of(model, case, rows[rank::ranks], reference) for rank in range(ranks)) / ranks
        loss.backward()
        first = first or {name: p.grad.clone() for name, p in trained}
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = SETTINGS["learning_rate"] * (1 - step / case["max_steps"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"losses": losses, "gradients": first}


def says_ordinary(case: dict, folder: Path, processes: int = 2) -> float:
    """The saved model's loss in transformers on the first batch."""
    case, ranks = CASE | case, processes // (CASE | case)["tensor_parallel_size"]
    pairs, model, reference = small_pairs(), ordinary(case, folder, "last"), ordinary(case, folder, "first")
    rows = [pairs[i] for i in range(BATCH * ranks)]
    with torch.no_grad():
        return float(sum(loss_of(model, case, rows[rank::ranks], reference) for rank in range(ranks))) / ranks


def saved_gradients(case: dict, folder: Path) -> dict[str, torch.Tensor]:
    """The first gradients over all processes, joined and named as transformers and PEFT name them."""
    from safetensors.torch import load_file

    file = "adapter_model.safetensors" if case.get("lora") else "model.safetensors"
    saved = load_file(folder / case["name"] / "gradients" / file)
    if case.get("lora"):
        return {name.replace(".weight", ".default.weight"): tensor for name, tensor in saved.items()}
    return saved


# ── how far several processes are from one ──────────────────────────────────────────────────────────────────


def differences(case: dict, folder: Path, ranks: list[dict], processes: int) -> dict[str, tuple[float, str]]:
    """{what is compared: (the largest difference, relative, and where)} of what `train_over` measured of a case.

    copies: between ranks, of a parameter that all have. Then, from one process: the first gradients, the first
    logged loss, all of them, and the saved model's loss, which should be the loss of the sharded one.
    """
    one, gradients = retrained(case, folder, processes), saved_gradients(case, folder)
    twice = set(gradients) - set(one["gradients"])
    assert all(name == "lm_head.weight" or "up_proj.lora_A" in name for name in twice), "only what is tied"
    pairs = {
        "copies": [(name, other["copied"][name], p) for name, p in ranks[0]["copied"].items() for other in ranks[1:]],
        "gradients": [(name, gradients[name], gradient) for name, gradient in one["gradients"].items()],
    }
    found = {what: max((apart(*two), name) for name, *two in each) for what, each in pairs.items() if each}
    steps = [enumerate(zip(rank["losses"], one["losses"], strict=True), start=1) for rank in ranks]
    logged = [(far(*losses), f"step {step}") for each in steps for step, losses in each]
    found["first loss"] = max(each for each in logged if each[1] == "step 1")
    found["losses"] = max(logged)
    saved = says_ordinary(case, folder, processes)
    said = [or_infinite(abs(rank["says"] - saved) / abs(saved)) for rank in ranks]
    return found | {"saved": (max(said), "the first batch")}


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The relative difference of two tensors in the 2-norm, exactly 0 only where they are equal."""
    found, expected = found.double(), expected.double()
    return or_infinite(float((found - expected).norm() / expected.norm().clamp_min(1e-30)))


def far(logged: float, expected: float) -> float:
    """The relative difference of a logged loss, 0 within its last digit."""
    apart = abs(logged - expected)
    return 0.0 if apart <= LAST_DIGIT else or_infinite(apart / abs(expected))


def or_infinite(difference: float) -> float:
    """A difference that is no number is the largest of all."""
    return math.inf if math.isnan(difference) else difference
