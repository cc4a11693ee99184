"""A sample cache in the documented layout, with every state in it: for the tests, and to look at without a Trainium.

Sizes and names are made up; nothing in it was compiled. `layout` describes what is written here.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from helpers.neuron.compile_cache.fingerprint import leave
from helpers.neuron.compile_cache.layout import DONE, FLAGS, LOG, NEFF, entries

COMPILER = "neuronxcc-2.21.33363.0+82129205"
OLDER_COMPILER = "neuronxcc-2.19.8089.0+8ab9f450"
GRAPH, GRAPH_LOCK = "model.hlo_module.pb", "model.hlo_module.pb.lock"
COMPILER_FLAGS = ["--model-type=transformer", "--auto-cast=none", "--target=trn1"]
TWO_DAYS = 2 * 86400
FAILED_LOG = """Failed compilation with ['neuronx-cc', 'compile', '--target=trn1', 'model.hlo_module.pb']:
[ERROR] [NCC_EVRF007] Estimated peak HBM usage (19.2 GB) exceeds the 16 GB of a core.
Reduce the batch size or the length, or spread the model over more cores.
"""


def graph_name(number: int) -> str:
    """MODULE_<graph hash>+<flags hash>."""
    digest = hashlib.sha256(f"sample graph {number}".encode()).hexdigest()
    flags = hashlib.sha256(" ".join(COMPILER_FLAGS).encode()).hexdigest()[:8]
    return f"MODULE_{int(digest[:16], 16)}+{flags}"


def add_graph(root: Path, number: int, compiler: str = COMPILER) -> Path:
    """A graph that waits to be compiled: the graph itself and its flags."""
    folder = root / compiler / graph_name(number)
    folder.mkdir(parents=True)
    (folder / GRAPH).write_bytes(f"graph {number}".encode() * 40)
    (folder / FLAGS).write_text(json.dumps(COMPILER_FLAGS), encoding="utf-8")
    return folder


def add_compiled(root: Path, number: int, compiler: str = COMPILER, size: int = 2000) -> Path:
    """A compiled graph of about `size` bytes."""
    folder = add_graph(root, number, compiler)
    (folder / NEFF).write_bytes(hashlib.shake_128(f"{compiler} {number}".encode()).digest(size))
    (folder / DONE).touch()
    return folder


def add_failed(root: Path, number: int) -> Path:
    """A graph whose compile failed."""
    folder = add_graph(root, number)
    (folder / LOG).write_text(FAILED_LOG, encoding="utf-8")
    return folder


def add_locked(root: Path, number: int, age: float = 0.0) -> Path:
    """A graph with a lock `age` seconds old: taken to be compiled while that is young, abandoned when it is not."""
    folder = add_graph(root, number)
    (folder / GRAPH_LOCK).touch()
    make_older(folder, age)
    return folder


def make_older(folder: Path, age: float) -> None:
    """Let everything in a folder be `age` seconds old."""
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - age,) * 2)


def make_sample(root: Path, compiled: int = 6) -> Path:
    """A cache after some weeks of classes: `compiled` graphs, one of each other state, and what does not belong."""
    for number in range(compiled):
        add_compiled(root, number, size=40_000 * (number + 1))
    add_failed(root, 101)
    add_locked(root, 102)
    add_locked(root, 103, age=TWO_DAYS)
    torn = add_graph(root, 104)
    (torn / NEFF).write_bytes(b"half a graph")
    make_older(torn, TWO_DAYS)
    for number in range(200, 203):
        add_compiled(root, number, OLDER_COMPILER, size=90_000)
    (root / COMPILER / "notes.txt").write_text("not of a cache", encoding="utf-8")
    return root


RUN = {  # the settings of a made-up run; a real fingerprint has some sixty
    "method": "orpo",
    "model.hidden_size": 1024,
    "model.num_hidden_layers": 28,
    "per_device_train_batch_size": 1,
    "max_length": 512,
    "bf16": True,
    "lora_rank": 16,
    "tensor_parallel_size": 2,
    "learning_rate": 1e-3,
    "compiler": COMPILER,
    "version.optimum-neuron": "0.4.5",
}


def add_run(root: Path) -> Path:
    """The fingerprint of a finished run that compiled every finished graph there is."""
    unfinished = {entry.name for entry in entries(root) if entry.state != "compiled"}
    return leave(root, RUN, before=unfinished, count=0)
