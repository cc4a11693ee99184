"""The machine of a run: processor, memory, speed, versions."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

FAST_BF16 = 1.5  # times the speed of float32, below which its rounding is not worth it
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "optimum-neuron", "botocore")


def machine_info() -> dict:
    """CPU, cores, memory in bytes, speed, accelerator, Python and system. No host, user or folder names."""
    import torch

    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "gflops": matmul_gflops(),
        "bf16_gflops": matmul_gflops(dtype=torch.bfloat16),
        "accelerator": accelerator,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine_text(machine: dict) -> str:
    """A machine in a few words."""
    accelerator = "no accelerator" if machine["accelerator"] == "none" else machine["accelerator"]
    return f"{machine['cpu']}, {machine['cores']} cores, {accelerator}"


def machine_report(machine: dict) -> str:
    """All that `machine_info` found, for people."""
    speed = f"{machine['gflops']:.0f} billion operations a second in float32, {machine['bf16_gflops']:.0f} in bf16"
    memory = f"{machine['memory'] / 2**30:.1f} GiB"
    return f"{machine_text(machine)}\n{memory}, {speed}\nPython {machine['python']}, {machine['system']}"


def here_and_now() -> dict:
    """What every record begins with: date, machine and versions."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "machine": machine_info(), "versions": versions()}


def matmul_gflops(seconds: float = 0.3, dtype=None) -> float:
    """How many billion operations a second this CPU (or GPU) does in matrix products; takes about `seconds`."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, burst = (8192, 10) if device == "cuda" else (1024, 1)  # a GPU needs large products, and many in a row
    if device == "cpu" and _seconds_of_product(256, dtype, device) * (size / 256) ** 3 > seconds:
        size = 256  # emulated bf16 would take seconds for the large one
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    _seconds_of_product(size, dtype, device)
    started, products = time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        for _ in range(burst):
            product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        products += burst
    return round(2 * size**3 * products / (time.perf_counter() - started) / 1e9, 1)


def _seconds_of_product(size: int, dtype, device: str) -> float:
    """One product of two square matrices, after one that starts threads and kernels."""
    import torch

    matrix = torch.ones(size, size, dtype=dtype, device=device)
    (matrix @ matrix).sum().item()
    started = time.perf_counter()
    (matrix @ matrix).sum().item()
    return time.perf_counter() - started


def fast_bf16(machine: dict) -> bool:
    """True if bf16 pays on this machine (from `machine_info`): emulated bf16 is slower than float32.

    $WORKSHOP_PRECISION ("float32" or "bf16") decides instead.
    """
    wanted = os.environ.get("WORKSHOP_PRECISION")
    if wanted not in (None, "", "float32", "bf16"):
        raise ValueError(f"WORKSHOP_PRECISION is {wanted!r}: give float32 or bf16")
    return wanted == "bf16" if wanted else machine.get("bf16_gflops", 0) >= FAST_BF16 * machine["gflops"]


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(sysctl, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide the numbers; those not installed are left out."""
    return installed(PACKAGES)


def installed(names: Iterable[str]) -> dict[str, str]:
    """{package: version} of those that are installed."""
    found = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def hide_xla() -> None:
    """Let nothing in this process find torch_xla, unless transformers has looked for it already."""
    if "transformers" not in sys.modules:
        sys.modules["torch_xla"] = None


def peak_memory_bytes() -> int:
    """The largest resident set of this process so far. getrusage counts in KiB on Linux and in bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
