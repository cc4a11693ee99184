"""Which backend a machine gets, and why; or what to install or start where its accelerator can't be used."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from helpers.backends.classes import (
    load_neuron_model,
    load_torch_model,
    neuron_classes,
    save_neuron_model,
    save_torch_model,
    torch_classes,
)
from helpers.backends.machine import AWS_PACKAGES, Machine, read_machine
from helpers.runs.machine import fast_bf16

NAMES = ("cpu", "cuda", "neuron", "torch-neuron")
OVERRIDE = "or set WORKSHOP_BACKEND=cpu to leave it unused"


class BackendError(RuntimeError):
    """An accelerator is there but unusable; the message says what to install or start."""


@dataclass(frozen=True)
class Backend:
    """A way to train: `trainer(method)` and `config(method)` import the classes, `load_model(path, args)` the model.

    `load_model(path, args, checkpoint)` takes the weights of a checkpoint; an adapter's goes on the model at `path`.

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
    """Raise a BackendError with the fix if this backend can't work here."""
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
    fix = "pip install -r requirements-neuron.txt"
    if machine.python >= (3, 12):
        version = ".".join(map(str, machine.python))
        fix = (
            f"optimum-neuron 0.4.5 ends at Python 3.11, this is {version}: make a 3.11 environment and there {fix}, "
            "or on Trn2 or Trn3 install TorchNeuron here (untried by this workshop)"
        )
    return [f"{', '.join(machine.missing_packages)} not installed: {fix}"]


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


def explain(measured: dict | None = None) -> str:
    """One line for people: the backend of this machine, or why its accelerator can't be used and how to fix it.

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
