"""Whether another process holds a Neuron device: the runtime gives a NeuronCore to one process at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from helpers.preflight.check import Check


def cores_check(devices: Path = Path("/dev"), processes: Path = Path("/proc")) -> Check | None:
    """Names who has a /dev/neuron* open; None on a machine without one.

    Processes of other users are seen by root only.
    """
    if not list(devices.glob("neuron[0-9]*")):
        return None
    held = {pid for pid in holders(devices, processes) if pid != os.getpid()}
    if not held:
        return Check("NeuronCores", True, "no process that can be seen holds one")
    named = ", ".join(f"process {pid} ({name_of(pid)})" for pid in sorted(held))
    return Check("NeuronCores", False, f"held by {named}", "wait for it, restart its notebook's kernel, or end it")


def holders(devices: Path, processes: Path) -> Iterator[int]:
    """Processes with a Neuron device open."""
    for opened in processes.glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(opened)
        except OSError:  # it has just closed it
            continue
        if target.startswith(f"{devices}/neuron"):
            yield int(opened.parents[1].name)


def name_of(pid: int) -> str:
    """A process's program."""
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return "just ended"
