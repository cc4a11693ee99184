"""Train tiny models over several processes: material for tests. `one_process` has what to compare them with.

`train_over(folder, cases, processes)` starts the processes once for all its cases, since starting them takes longer
than training does. A case is a dictionary of JSON: `name`, `path`, `method`, and the trainer's settings (see `CASE`).
`without` names a correction of the workshop's that the case leaves out, so that what it corrects is seen.
"""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from unittest import mock

import torch
from transformers import TrainerCallback

from helpers.files import REPOSITORY
from tests.rehearsal.launch import ONE_PROCESS, free_port

LENGTH, VOCABULARY, BATCH, STEPS, PAIRS, BETA = 48, 512, 2, 10, 24, 0.7
LONGEST = 34  # tokens, even: no response of these pairs has more
CASE = {
    "method": "orpo",
    "layout": "rows",
    "lora": 0,
    "dtype": "float32",
    "tensor_parallel_size": 2,
    "disable_sequence_parallel": False,
    "zero_1": True,
    "max_steps": STEPS,
    "without": "",
}
SETTINGS = {
    "per_device_train_batch_size": BATCH,
    "max_length": LENGTH,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "beta": BETA,
}


def train_over(folder: Path, cases: list[dict], processes: int = 2) -> dict[str, list[dict]]:
    """{name of the case: what each rank measured}; models are saved in folder/name (see `train_case`)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps([CASE | case for case in cases]))
    environment = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    world = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": free_port(), "OMP_NUM_THREADS": 1}
    environment |= {name: str(value) for name, value in world.items()}
    command = [sys.executable, "-m", "tests.rehearsal.several", str(folder)]
    ranks = []
    for rank in range(processes):
        own = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        log = (folder / f"rank-{rank}.log").open("w")
        ranks.append(subprocess.Popen(command, cwd=REPOSITORY, env=own, stdout=log, stderr=subprocess.STDOUT))
    codes = [process.wait(timeout=600) for process in ranks]
    tails = [(folder / f"rank-{rank}.log").read_text()[-3000:] for rank in range(processes)]
    assert not any(codes), "\n".join(tails)
    return measured_of(folder, processes)


def measured_of(folder: Path, processes: int) -> dict[str, list[dict]]:
    """What `train_over` returned for this folder, {} where it has not ended."""
    files = [folder / f"measured-{rank}.pt" for rank in range(processes)]
    if not all(file.is_file() for file in files):
        return {}
    ranks = [torch.load(file, weights_only=False) for file in files]
    return {name: [rank[name] for rank in ranks] for name in ranks[0]}


def small_pairs():
    """Tokenised pairs of the domain, in a small vocabulary, so that logits stay small. 0 is padding and nothing else:
    an ordinary embedding keeps that row without gradient, a split one does not."""
    from helpers.training.base_model import SMOKE, load_tokenizer
    from tests.rehearsal.tiny import real_pairs

    def small(row: dict) -> dict:
        names = [name for name in row if name.endswith(("_input_ids", "_labels"))]
        return row | {name: [t if t < 0 else 1 + t % (VOCABULARY - 1) for t in row[name]] for name in names}

    return real_pairs(PAIRS, load_tokenizer(SMOKE), LENGTH).map(small)


# ── in each of the processes ────────────────────────────────────────────────────────────────────────────────


def main(folder: str) -> None:
    from tests.rehearsal import launch

    launch.prepare()
    folder, rank = Path(folder), os.environ["RANK"]
    pairs, measured = small_pairs(), {}
    for case in json.loads((folder / "cases.json").read_text()):
        start_anew(case["tensor_parallel_size"])
        train = train_without if case["without"] else train_case
        measured[case["name"]] = train(case, pairs, folder / case["name"])
    torch.save(measured, folder / f"measured-{rank}.pt")
    torch.distributed.barrier()


def start_anew(tensor_parallel_size: int) -> None:
    """Forget the last case's settings, which accelerate keeps for the whole process; form other groups if needed."""
    from neuronx_distributed.parallel_layers import parallel_state
    from optimum.neuron.accelerate.state import NeuronAcceleratorState, NeuronPartialState

    NeuronAcceleratorState._shared_state.clear()
    NeuronPartialState._shared_state.clear()
    if not parallel_state.model_parallel_is_initialized():  # Optimum Neuron does it for the first case
        return
    if parallel_state.get_tensor_model_parallel_size() != tensor_parallel_size:
        parallel_state.destroy_model_parallel()
        parallel_state.initialize_model_parallel(tensor_model_parallel_size=tensor_parallel_size)


def train_case(case: dict, pairs, folder: Path) -> dict:
    """Train, and save in `folder` the model before (`first`, with LoRA), after (`last`) and the first `gradients`.

    Returns the logged losses, this rank's copied parameters at the end, and what it then says of the first batch.
    """
    from optimum.neuron import NeuronTrainer
    from peft import LoraConfig
    from transformers import set_seed

    from helpers.neuron.checkpoint import save_ordinary
    from scripts.train import LINEAR_LAYERS
    from tests.rehearsal.tiny import neuron_trainer

    set_seed(0)
    settings = {name: value for name, value in case.items() if name not in ("name", "path", "lora", "without")}
    rank = case["lora"]
    lora = (
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR_LAYERS, task_type="CAUSAL_LM") if rank else None
    )
    given = SETTINGS | settings
    gradients = FirstGradients()
    trainer = neuron_trainer(
        case["path"], pairs, folder / "out", peft_config=lora if rank else None, callbacks=[gradients], **given
    )
    if rank:
        fill_lora(trainer.model)
        save_ordinary(trainer, str(folder / "first"))
    trainer.train()
    history = trainer.state.log_history
    measured = {
        "losses": [record["loss"] for record in history if "loss" in record],
        "grad_norms": [float(record["grad_norm"]) for record in history if "loss" in record],
        "copied": {n: p.detach().clone() for n, p in trainer.model.named_parameters() if is_copied(p)},
        "says": says(trainer),
        "first_process": trainer.is_world_process_zero(),
        "upstreams_first_process": NeuronTrainer.is_world_process_zero(trainer),
    }
    save_ordinary(trainer, str(folder / "last"))
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(over_data_parallel_ranks(gradients.first[name], trainer.dp_size))
    save_ordinary(trainer, str(folder / "gradients"))
    return measured


def train_without(case: dict, pairs, folder: Path) -> dict:
    """`train_case` without one of the workshop's corrections; or {"error": what every rank then raised}."""
    from helpers.neuron import changes, refusals

    module, name, instead = {
        "partial sums": (changes, "CHANGES", (changes.fix_zero_1,)),
        "ZeRO-1": (changes, "CHANGES", (changes.fix_partial_sums,)),
        "models refused": (refusals, "refuse_model", lambda *args: None),
        "lengths refused": (refusals, "refuse_uneven_length", lambda *args: None),
    }[case["without"]]
    with mock.patch.object(module, name, instead):
        try:
            return train_case(case, pairs, folder)
        except (ValueError, AssertionError) as error:
            return {"error": f"{type(error).__name__}: {error}"}


def over_data_parallel_ranks(gradient: torch.Tensor, ranks: int) -> torch.Tensor:
    """The mean of a gradient over the data-parallel ranks, which ZeRO-1 takes only inside of its step."""
    import torch_xla.core.xla_model as xm
    from neuronx_distributed.parallel_layers.parallel_state import get_data_parallel_replica_groups

    if ranks == 1:
        return gradient
    return xm.all_reduce(xm.REDUCE_SUM, gradient.clone(), groups=get_data_parallel_replica_groups()) / ranks


def is_copied(parameter) -> bool:
    return parameter.requires_grad and not getattr(parameter, "tensor_model_parallel", False)


def fill_lora(model) -> None:
    """LoRA begins with zeros in B, which would leave A without gradient: other numbers, the same in copies."""
    from neuronx_distributed.parallel_layers.parallel_state import get_tensor_model_parallel_rank

    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            own = 0 if is_copied(parameter) else get_tensor_model_parallel_rank()
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + own)
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))


def says(trainer) -> float:
    """The sharded model's loss on the first batch of its data-parallel rank, averaged over those ranks."""
    import torch_xla.core.xla_model as xm
    from neuronx_distributed.parallel_layers.parallel_state import get_data_parallel_replica_groups

    batch = next(iter(trainer.get_train_dataloader()))
    batch |= {"share": torch.ones(1)} if hasattr(trainer, "response_length") else {}
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch)
    total = xm.all_reduce(xm.REDUCE_SUM, loss.float().reshape(1), groups=get_data_parallel_replica_groups())
    return float(total) / trainer.dp_size


class FirstGradients(TrainerCallback):
    """Keeps the gradients of the first update, from where ZeRO-1 has them too."""

    def __init__(self):
        self.first = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.first is None:
            trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
            self.first = {n: (p.grad if p.grad is not None else p.main_grad).detach().clone() for n, p in trained}


if __name__ == "__main__":
    main(sys.argv[1])
