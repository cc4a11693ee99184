"""What this machine has: devices, drivers, packages, and how fast it multiplies."""

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

import torch

from helpers.runs.machine import hide_xla, matmul_gflops

AWS_PACKAGES = ("torch_neuronx", "neuronx_distributed", "neuronxcc")  # who installs these wants a Trainium
NEURON_PACKAGES = ("optimum.neuron", "torch_xla", *AWS_PACKAGES)


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
