"""Run a Trainium program on XLA's CPU device: `python -m tests.rehearsal.launch scripts/train.py --method orpo …`.

optimum-neuron, torch-xla, transformers, trl and our code are the real ones. What only AWS's package index serves is
stood in for by `standins/`, unless it is really installed or, for neuronx_distributed, NXD_SRC names the folder of its
source. What this shows: the code runs, learns and keeps to one set of graphs; started as several processes (with
torchrun), that tensor and data parallelism compute the right thing, on CPU tensors with gloo (see `on_cpu`). What it
can't: the Neuron compiler, NeuronCores, speed, memory.
"""

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import runpy
import socket
import sys
from pathlib import Path

from helpers.neuron.compile_cache.watch import compiled_graphs
from tests.rehearsal import on_cpu
from tests.rehearsal.xla_watch import XlaWatch

STANDINS = Path(__file__).with_name("standins")
PACKAGES = ("neuronx_distributed", "torch_neuronx", "neuronxcc", "libneuronxla")
ONE_PROCESS = {
    "PJRT_DEVICE": "CPU",
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "",  # a free one, so that two rehearsals can run at once
    "TORCHELASTIC_RUN_ID": "rehearsal",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
# The graphs here are small and each runs a few times: optimising them takes longer than it saves.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def prepare() -> dict[str, str]:
    """Make the Trainium code importable and runnable here; returns {package: "real" or "stood in for"}."""
    one_process = ONE_PROCESS | {"MASTER_PORT": free_port()}
    os.environ.update({name: value for name, value in one_process.items() if name not in os.environ})
    os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)
    source = os.environ.get("NXD_SRC")
    if source:
        take_source(source)
    # torch_xla first: were a libneuronxla importable, it would try to start it.
    import torch_xla.core.xla_env_vars as xla_env_vars

    origin = {package: "stood in for" if missing(package) else "real" for package in PACKAGES}
    if str(STANDINS) not in sys.path:
        sys.path.append(str(STANDINS))  # last, so that a real package wins
    if not hasattr(xla_env_vars, "HOST_WORLD_SIZE"):
        xla_env_vars.HOST_WORLD_SIZE = "HOST_WORLD_SIZE"  # a name that only AWS's build of torch_xla has
    if processes() > 1:
        on_cpu.start()
    if source:
        import_from(source)
    keep_graphs()
    leave_out_inference()
    leave_out_the_hub_cache()
    if processes() > 1:
        on_cpu.join_when_asked()
    return origin


def take_source(folder: str) -> None:
    """Put the folder of neuronx_distributed's source first on the path; end with one line where it is not there."""
    if not (Path(folder) / "neuronx_distributed" / "__init__.py").is_file():
        sys.exit(
            f"NXD_SRC={folder} has no neuronx_distributed/__init__.py: name the folder above it, in AWS's repository "
            "src/, or unset NXD_SRC to use the stand-in"
        )
    sys.path.insert(0, folder)


def import_from(folder: str) -> None:
    """Import neuronx_distributed from its source; end with one line where a package that it needs is missing."""
    try:
        importlib.import_module("neuronx_distributed")
    except ImportError as error:
        sys.exit(
            f"NXD_SRC={folder}: its neuronx_distributed can't be imported ({error}): install what it needs, or unset "
            "NXD_SRC to use the stand-in"
        )


def processes() -> int:
    """How many processes this rehearsal consists of."""
    return int(os.environ["WORLD_SIZE"])


def free_port() -> str:
    """A port of this host that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def keep_graphs() -> None:
    """Where a compile cache is set as on a Trainium, let XLA keep its graphs there, in a folder of its own."""
    if cache := os.environ.get("NEURON_COMPILE_CACHE_URL"):
        folder = Path(cache) / f"xla-cpu-{importlib.metadata.version('torch-xla')}"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("XLA_PERSISTENT_CACHE_PATH", str(folder))


def missing(package: str) -> bool:
    """True unless a package of this name with code in it is installed (PyPI holds empty stubs of some)."""
    spec = importlib.util.find_spec(package)
    return spec is None or spec.origin is None or str(STANDINS) in spec.origin


def leave_out_inference() -> None:
    """Optimum Neuron's inference models trace with the Neuron compiler; training imports them and never uses them."""
    from stood_in import absent

    name = "optimum.neuron.models.inference.auto_models"
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
    module.__getattr__ = absent(name)
    sys.modules[name] = module


def leave_out_the_hub_cache() -> None:
    """The hub's compile cache stores what the Neuron compiler made; here XLA's CPU compiler makes nothing to store."""
    import optimum.neuron.trainers.transformers as trainers

    trainers.hub_neuronx_cache = lambda *args, **kwargs: contextlib.nullcontext()
    trainers.NeuronTrainer.synchronize_hub_cache = lambda self: None


def describe(origin: dict[str, str]) -> str:
    """What is real here and what is not, in two lines."""
    real = ["optimum-neuron", "torch-xla", *(name for name, what in origin.items() if what == "real")]
    stood_in = [name for name, what in origin.items() if what != "real"]
    where, count = ("XLA's CPU device", "one process") if processes() == 1 else ("the CPU", f"{processes()} processes")
    return (
        f"Rehearsal on {where} (no Trainium): real are {', '.join(real)};\n"
        f"stood in for, in {count}: {', '.join(stood_in) or 'nothing'}; left out: the hub's cache, inference."
    )


def main(arguments: list[str]) -> None:
    print(describe(prepare()), flush=True)
    script, *rest = arguments
    sys.argv = [script, *rest]
    sys.path.insert(0, os.getcwd())
    cached = os.environ.get("XLA_PERSISTENT_CACHE_PATH")
    # to stderr in one piece: the script's own lines on stdout stay whole
    seen = XlaWatch(say=lambda line: os.write(2, f"{line}\n".encode()))
    try:
        with seen:
            runpy.run_path(script, run_name="__main__")
    finally:  # a script ends with sys.exit
        new = f", {seen.compiled} of them new" if cached else ""
        print(f"XLA compiled {compiled_graphs()} graphs{new}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
