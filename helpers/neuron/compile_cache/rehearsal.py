"""A cold and a warm start, and what adds a graph: on this machine's Trainium, rehearsed on XLA's CPU device, or as
recorded (`python -m scripts.record_compile_cache`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.neuron.compile_cache.cache import CompileCache
from helpers.neuron.compile_cache.settings import configure
from helpers.neuron.run import RECORDED, TrainingRun, rehearse, train_on_trainium

RECORDED_STARTS = RECORDED.with_name("compile_cache.json")
SHORT = {"max_steps": 3, "max_length": 64, "per_device_train_batch_size": 2, "pairs": 12, "bf16": False, "beta": 0.1}
# The defaults of what the recording changes, told so that the table can name them
SHORT |= {"seed": 42, "learning_rate": 5e-5, "weight_decay": 0.0, "max_grad_norm": 1.0, "warmup_steps": 0}
SHORT |= {"gradient_accumulation_steps": 1, "zero_1": True, "lora_rank": 0}


@dataclass
class Start:
    """A run, how many graphs its cache had afterwards, and the checksum of their names."""

    run: TrainingRun
    compiled: int
    graphs: str

    def __str__(self) -> str:
        return f"{self.run}; {self.compiled} graphs in its cache [{self.graphs}]"


def cold_and_warm(folder: Path, url: str, train: Callable[[CompileCache, str], TrainingRun]) -> dict[str, Start]:
    """Train with an empty cache, push it to `url`, pull from there into a second empty cache, train again with that."""
    starts = {}
    for name in ("cold", "warm"):
        cache = CompileCache(folder / name)
        if name == "warm":
            print(cache.pull(url))
        configure(cache.path)
        run = train(cache, f"{folder}/{name}-run")
        starts[name] = Start(run, cache.summary().compiled, cache.summary().graphs)
        if name == "cold":
            print(cache.push(url))
    return starts


def rehearsed(_, output: str, **changes) -> TrainingRun:
    """A short run on XLA's CPU device."""
    return rehearse("orpo", output_dir=output, **SHORT | changes)


def on_trainium(cache: CompileCache, output: str, **settings) -> TrainingRun:
    """A run on this machine's NeuronCores, its graphs counted in the cache and the compiler's log."""
    with cache.watch() as seen:
        run = train_on_trainium("orpo", listen=seen.hear, output_dir=output, **settings)
    return replace(run, graphs=seen.compiled + seen.reused, new_graphs=seen.compiled)


def recorded_starts() -> dict[str, Start]:
    """The recorded starts; `where` tells machine and date."""
    stored = json.loads(RECORDED_STARTS.read_text(encoding="utf-8"))
    where = f"recorded rehearsal ({stored['machine']['cpu']}, {stored['date'][:10]})"
    runs = {name: TrainingRun(**start["run"] | {"where": where}) for name, start in stored["starts"].items()}
    return {name: Start(**start | {"run": runs[name]}) for name, start in stored["starts"].items()}


def table_of_changes() -> str:
    """Markdown: a changed setting, how many graphs the run has, and how many of them are new; from the record."""
    stored = json.loads(RECORDED_STARTS.read_text(encoding="utf-8"))
    lines = ["| changed | graphs | of them new |", "|---|---|---|"]
    for row in stored["changes"]:
        changed = ", ".join(f"`{name}` {stored['settings'][name]} → {to}" for name, to in row["change"].items())
        lines.append(f"| {changed} | {row['graphs']} | {row['new']} |")
    return "\n".join(lines)
