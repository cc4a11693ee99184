"""What plain PyTorch gets: helpers.training.orpo.ORPOTrainer in its own process, without torch_xla.

The process gets a JSON file with {"path", "pairs", "length", "settings"} and writes the outcome. With the setting
`method="dpo"` it is DPO, with the reference log-probs of `helpers.training.dpo_reference`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from helpers.files import REPOSITORY
from tests.rehearsal.launch import ONE_PROCESS

WITHOUT_XLA = """
import sys
sys.modules["torch_xla"] = None  # else transformers trains on the XLA device, use_cpu or not
from tests.rehearsal import reference
reference.main(*sys.argv[1:])
"""


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimizer step, on the CPU, by parameter name."""

    def __init__(self):
        self.first = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.first is None:
            named = model.named_parameters()
            self.first = {name: p.grad.detach().cpu().float() for name, p in named if p.grad is not None}


def outcome(trainer) -> dict:
    """Train, and return what two trainers are compared by: `history`, `gradients`, `parameters` and `updates`."""
    gradients, before = Gradients(), parameters_of(trainer.model)
    trainer.add_callback(gradients)
    trainer.train()
    after = parameters_of(trainer.model)
    history = [record for record in trainer.state.log_history if "loss" in record]
    updates = {name: after[name] - parameter for name, parameter in before.items()}
    return {"history": history, "gradients": unfused(gradients.first), "parameters": after, "updates": updates}


def parameters_of(model) -> dict[str, torch.Tensor]:
    """Copies of a model's parameters, on the CPU, by their ordinary names."""
    return unfused({name: p.detach().cpu().float().clone() for name, p in model.named_parameters()})


def unfused(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Optimum Neuron keeps the gate and up projections in one matrix: split it again."""
    split = {}
    for name, tensor in named.items():
        if "gate_up_proj" in name:
            gate, up = tensor.chunk(2)
            split |= {name.replace("gate_up_proj", "gate_proj"): gate, name.replace("gate_up_proj", "up_proj"): up}
        else:
            split[name] = tensor
    return split


def assert_agreement(plain: dict, xla: dict, metrics: tuple[str, ...], gradients: bool = True) -> None:
    """Two outcomes of five steps agree: the first step's metrics and gradients to 1e-5, after five steps to 1e-3."""
    assert len(plain["history"]) == len(xla["history"]) == 5
    first, last = ((plain["history"][i], xla["history"][i]) for i in (0, 4))
    one_ulp = 1e-7 * abs(first[0]["logps/chosen"])  # rewards are small differences of numbers of this size, in float32
    for name in metrics:
        assert first[1][name] == pytest.approx(first[0][name], rel=1e-5, abs=one_ulp), name
        assert last[1][name] == pytest.approx(last[0][name], rel=1e-3, abs=one_ulp), name
    assert first[1]["loss"] == pytest.approx(first[0]["loss"], abs=6e-5)  # both log four digits after the point
    assert last[1]["loss"] == pytest.approx(last[0]["loss"], rel=1e-3)
    if gradients:
        assert set(xla["gradients"]) == set(plain["gradients"])
        for name, gradient in plain["gradients"].items():
            assert (xla["gradients"][name] - gradient).norm() / gradient.norm() < 1e-5, name
    for name, update in plain["updates"].items():
        assert (xla["updates"][name] - update).norm() / update.norm() < 1e-3, name


def plain_pytorch(folder: Path, path: str, pairs: int, length: int, **settings) -> dict:
    """`outcome` of helpers.training.orpo.ORPOTrainer on the first pairs of the domain."""
    request, out = folder / "request.json", folder / "reference.pt"
    request.write_text(json.dumps({"path": path, "pairs": pairs, "length": length, "settings": settings}))
    environment = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    command = [sys.executable, "-c", WITHOUT_XLA, str(request), str(out)]
    subprocess.run(command, cwd=REPOSITORY, env=environment | {"HF_HUB_OFFLINE": "1"}, check=True, capture_output=True)
    return torch.load(out)


def main(request: str, out: str) -> None:
    from helpers.training.base_model import SMOKE, load_model, load_tokenizer
    from helpers.training.dpo_reference import with_reference_logps
    from tests.rehearsal.tiny import real_pairs, torch_trainer

    asked = json.loads(Path(request).read_text())
    pairs = real_pairs(asked["pairs"], load_tokenizer(SMOKE), asked["length"])
    if asked["settings"].get("method") == "dpo":
        pairs = with_reference_logps(pairs, load_model(asked["path"]), load_tokenizer(SMOKE).pad_token_id)
    output = Path(out).with_suffix("")
    torch.save(
        outcome(torch_trainer(asked["path"], pairs, output, max_length=asked["length"], **asked["settings"])), out
    )
