"""Which accelerator this machine has, why, and what to import for it. `python -m helpers.backends` says it in one line.

An accelerator that is there but can't be used is never passed over for the CPU: a BackendError says how to mend it,
and `WORKSHOP_BACKEND=cpu` (or the argument) overrides. Where torch_xla is installed the override needs
`set_xla_aside()` before transformers is imported.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path

import torch

from helpers.runs.machine import fast_bf16, hide_xla, matmul_gflops

NAMES = ("cpu", "cuda", "neuron", "torch-neuron")
OVERRIDE = "or set WORKSHOP_BACKEND=cpu to leave it unused"


class BackendError(RuntimeError):
    """An accelerator is there but unusable; the message says what to install or start."""


@dataclass(frozen=True)
class Machine:
    """What decides the backend, as found: devices, drivers, packages."""

    neuron_devices: int
    nvidia_driver: bool
    cuda: bool
    native_neuron: bool
    neuron_packages: tuple[str, ...]
    missing_packages: tuple[str, ...]
    pjrt_device: str
    xla_in_use: bool
    python: tuple[int, int]
    gflops: float
    bf16_gflops: float


AWS_PACKAGES = ("torch_neuronx", "neuronx_distributed", "neuronxcc")  # who installs these wants a Trainium
NEURON_PACKAGES = ("optimum.neuron", "torch_xla", *AWS_PACKAGES)


def read_machine() -> Machine:
    """Look at /dev, the installed packages and torch."""
    found = tuple(name for name in NEURON_PACKAGES if installed(name))
    native = getattr(torch, "neuron", None)
    return Machine(
        neuron_devices=count_neuron_devices(),
        nvidia_driver=bool(list(Path("/dev").glob("nvidia[0-9]*"))),
        cuda=torch.cuda.is_available(),
        native_neuron=bool(native and native.is_available()),
        neuron_packages=found,
        missing_packages=tuple(name for name in NEURON_PACKAGES if name not in found),
        pjrt_device=os.environ.get("PJRT_DEVICE", ""),
        xla_in_use=xla_in_use(),
        python=sys.version_info[:2],
        gflops=matmul_gflops(),
        bf16_gflops=matmul_gflops(dtype=torch.bfloat16),
    )


def count_neuron_devices() -> int:
    """How many Neuron devices the driver shows."""
    return len(list(Path("/dev").glob("neuron[0-9]*")))


def installed(name: str) -> bool:
    """True if a module of this name is there, set aside or not (it is not imported: that might start a device)."""
    parent = name.partition(".")[0]
    if PathFinder.find_spec(parent) is None:
        return False
    return parent == name or importlib.util.find_spec(name) is not None


def xla_in_use() -> bool:
    """True if transformers is imported and found torch_xla: its trainers then use XLA's device, `use_cpu` or not."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and transformers.utils.is_torch_xla_available()


def set_xla_aside(arguments: list[str]) -> None:
    """Hide torch_xla from this process unless Optimum Neuron is to train in it, as a script's `arguments` say.

    To be called before transformers is imported: it looks for torch_xla only once, and so does accelerate.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--backend")
    wanted = parser.parse_known_args(arguments)[0].backend or os.environ.get("WORKSHOP_BACKEND")
    trainium = wanted == "neuron" if wanted else count_neuron_devices() or any(map(installed, AWS_PACKAGES))
    if not trainium:
        hide_xla()


@dataclass(frozen=True)
class Backend:
    """A way to train: `trainer(method)` and `config(method)` import the classes, `load_model(path, args)` the model.

    `save_model(trainer, folder)` leaves an ordinary model or PEFT adapter, and returns the folder that it is in.
    """

    name: str
    reason: str
    dtype: torch.dtype
    fixed_shapes: bool
    classes: Callable[[str], tuple[type, type]]
    load_model: Callable
    save_model: Callable

    def trainer(self, method: str) -> type:
        """The trainer class for "sft" or "orpo"."""
        return self.classes(method)[0]

    def config(self, method: str) -> type:
        """Its arguments."""
        return self.classes(method)[1]

    def __str__(self) -> str:
        shapes = "fixed shapes" if self.fixed_shapes else "any shape"
        return f"Backend {self.name}: {self.reason} ({str(self.dtype).removeprefix('torch.')}, {shapes})"


def detect(override: str | None = None, machine: Machine | None = None) -> Backend:
    """The backend for this machine, or the one named by `override` or $WORKSHOP_BACKEND.

    Raises ValueError for a name that does not exist, BackendError for an accelerator that can't be used.
    """
    machine = machine or read_machine()
    wanted = override or os.environ.get("WORKSHOP_BACKEND") or None
    if wanted is not None and wanted not in NAMES:
        raise ValueError(f"unknown backend {wanted!r}: choose one of {', '.join(NAMES)}")
    name, reason = (wanted, "chosen by you") if wanted else choose(machine)
    require(name, machine)
    return make(name, reason, machine)


def choose(machine: Machine) -> tuple[str, str]:
    """(name, why) for a machine: its accelerator, or what its packages are for, whether or not it can be used."""
    if machine.native_neuron:
        return "torch-neuron", "torch has the device 'neuron'"
    if machine.neuron_devices:
        return "neuron", f"{machine.neuron_devices} Neuron devices"
    if set(AWS_PACKAGES) & set(machine.neuron_packages):
        return "neuron", "XLA's CPU device stands in for a Trainium"
    if machine.nvidia_driver or machine.cuda:
        return "cuda", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a CUDA device"
    return "cpu", "no accelerator found"


def has_trainium(machine: Machine | None = None) -> bool:
    """True if training here would run on NeuronCores, through Optimum Neuron: no rehearsal, no override, no fault."""
    machine = machine or read_machine()
    try:
        return detect(machine=machine).name == "neuron" and machine.neuron_devices > 0
    except BackendError:
        return False


def require(name: str, machine: Machine) -> None:
    """Raise a BackendError with the mend if this backend can't work here."""
    if name in ("cpu", "cuda") and machine.xla_in_use:
        raise BackendError(
            f"{name}: transformers was imported where torch_xla is, and would train on XLA's device: start "
            "scripts/train.py by itself, or use an environment without torch_xla (make setup)"
        )
    if name == "cuda" and not machine.cuda:
        build = f"torch {torch.__version__} can't use it" if machine.nvidia_driver else "there is no NVIDIA driver"
        raise BackendError(f"CUDA: {build}: install a torch build that fits the driver, {OVERRIDE}")
    if name == "torch-neuron" and not machine.native_neuron:
        raise BackendError(f"torch-neuron: this torch has no device 'neuron': install TorchNeuron, {OVERRIDE}")
    if name == "neuron" and (missing := [*missing_devices(machine), *missing_packages(machine)]):
        raise BackendError(f"Trainium: {'; '.join(missing)}, {OVERRIDE}")


def missing_devices(machine: Machine) -> list[str]:
    """What to do about Neuron devices that aren't there; nothing in a rehearsal."""
    if machine.neuron_devices or machine.pjrt_device == "CPU":
        return []
    start = "start a trn1 or trn2 instance, give a container --device=/dev/neuron0"
    there = f"{', '.join(machine.neuron_packages)} found, but " if machine.neuron_packages else ""
    return [f"{there}there is no /dev/neuron0: {start}"]


def missing_packages(machine: Machine) -> list[str]:
    """What to do about packages of Optimum Neuron's that aren't there."""
    if not machine.missing_packages:
        return []
    mend = "pip install -r requirements-neuron.txt"
    if machine.python >= (3, 12):
        version = ".".join(map(str, machine.python))
        mend = (
            f"optimum-neuron 0.4.5 ends at Python 3.11, this is {version}: make a 3.11 environment and there {mend}, "
            "or on Trn2 or Trn3 install TorchNeuron here (untried by this workshop)"
        )
    return [f"{', '.join(machine.missing_packages)} not installed: {mend}"]


# ── what to import ──────────────────────────────────────────────────────────────────────────────────────────


def make(name: str, reason: str, machine: Machine) -> Backend:
    """The backend's classes and model loader. Nothing is imported before it is asked for."""
    if name == "neuron":
        return Backend(name, reason, torch.bfloat16, True, neuron_classes, load_neuron_model, save_neuron_model)
    dtype = torch.bfloat16
    if name in ("cpu", "cuda"):
        dtype = torch.bfloat16 if fast_bf16(asdict(machine)) else torch.float32
        reason = f"{reason}; bf16 multiplies {machine.bf16_gflops / machine.gflops:.1f} times as fast as float32"
    else:  # these trainers choose the scored positions by value, so no padding would keep their shapes the same
        reason = f"{reason}; untried: this workshop never ran on it, and no two steps need have the same shapes"
    return Backend(name, reason, dtype, False, torch_classes, load_torch_model, save_torch_model)


def torch_classes(method: str) -> tuple[type, type]:
    """(trainer, config) of plain PyTorch."""
    if method == "sft":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer, SFTConfig
    if method == "dpo":
        from trl import DPOConfig

        return tokenized_dpo_trainer(), DPOConfig
    from helpers.training.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer, ORPOConfig


def tokenized_dpo_trainer() -> type:
    """TRL's DPOTrainer, which takes the output of `helpers.data.dpo_features` as it is."""
    from trl import DPOTrainer

    class TokenizedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    return TokenizedDPOTrainer


def neuron_classes(method: str) -> tuple[type, type]:
    """(trainer, config) of Optimum Neuron."""
    if method == "sft":
        from helpers.neuron import NeuronSFTConfig, NeuronSFTTrainer

        return NeuronSFTTrainer, NeuronSFTConfig
    if method == "dpo":
        from helpers.neuron import NeuronDPOConfig, NeuronDPOTrainer

        return NeuronDPOTrainer, NeuronDPOConfig
    from helpers.neuron import NeuronORPOConfig, NeuronORPOTrainer

    return NeuronORPOTrainer, NeuronORPOConfig


def load_torch_model(path: str, args):
    """An ordinary model. Its weights are float32: `args.bf16` is autocast here, which rounds products, not updates."""
    from helpers.training.base_model import load_model

    return load_model(path)


def load_neuron_model(path: str, args):
    """Optimum Neuron's training model, split over cores as `args.trn_config` says."""
    from optimum.neuron.models.training import NeuronModelForCausalLM

    from helpers.neuron.refusals import refuse_model
    from helpers.training.base_model import MADE, load_config, load_model

    refuse_model(load_config(path), args.trn_config.tensor_parallel_size)
    with tempfile.TemporaryDirectory() as folder:
        if path in MADE:  # made on the spot, and Optimum Neuron reads only folders
            load_model(path).save_pretrained(folder)
            path = folder
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        return NeuronModelForCausalLM.from_pretrained(path, args.trn_config, dtype=dtype)


def save_torch_model(trainer, folder: str) -> Path:
    """What the trainer saves is ordinary already."""
    trainer.save_model(folder)
    return Path(folder)


def save_neuron_model(trainer, folder: str) -> Path:
    """Optimum Neuron saves shards, which are joined."""
    from helpers.neuron.checkpoint import save_ordinary

    return save_ordinary(trainer, folder)


def explain(measured: dict | None = None) -> str:
    """One line for people: the backend of this machine, or why its accelerator can't be used and how to mend it.

    measured: a run's machine, whose speeds decide the run's precision; else they are measured now. On a busy machine
    two measurements may differ.
    """
    machine = read_machine()
    if measured:
        machine = replace(machine, **{name: measured[name] for name in ("gflops", "bf16_gflops") if name in measured})
    try:
        return str(detect(machine=machine))
    except BackendError as error:
        return f"FAIL  {error}"


if __name__ == "__main__":
    print(line := explain())
    sys.exit(line.startswith("FAIL"))
