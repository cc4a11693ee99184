"""What decides a run's graphs, left in the cache by a finished run, so that the next one knows if it will compile.

A fingerprint is a flat dictionary: `model.*` (its config), the training arguments that shape a step, cores and LoRA,
the compiler with its flags, and package versions. `scripts/train.py` leaves it and asks it (--will_it_compile True).
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from helpers.files import read_json, write_json
from helpers.neuron.compile_cache import settings
from helpers.neuron.compile_cache.layout import FINGERPRINTS, NEURON, XLA, entries, fingerprint_files, walk
from helpers.neuron.compile_cache.watch import compiled_graphs
from helpers.runs.machine import installed

PACKAGES = (
    "torch torch-xla torch-neuronx libneuronxla neuronx-cc neuronx_distributed optimum-neuron transformers trl peft"
)
# Numbers that a step computes with. XLA writes 0 and 1 into the graph and passes most other values in, so changing one
# may add graphs or not. Seen on XLA's CPU device: weight_decay 0 → 0.01, max_grad_norm 1 → 0.5, beta 0.1 → 1 and
# warmup_steps 0 → 2 added some; learning_rate, and beta 0.1 → 0.5, added none.
NUMBERS = (
    "beta weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm learning_rate lr_scheduler_type warmup_steps "
    "warmup_ratio"
)
SHAPES = (
    "per_device_train_batch_size gradient_accumulation_steps max_length layout row_length max_response_length "
    "packing bf16 fp16 optim gradient_checkpointing zero_1 stochastic_rounding_enabled optimizer_use_master_weights "
    "optimizer_use_fp32_grad_acc tensor_parallel_size pipeline_parallel_size pipeline_parallel_num_microbatches "
    "disable_sequence_parallel kv_size_multiplier fuse_qkv recompute_causal_mask use_autocast label_smoothing_factor "
    "nll_on_prompt"
)
# Variables that reach the compiler or the runtime but shape no graph: places, cores, logs, the tools' own
NO_SHAPE = re.compile(
    r"NEURON_CC_FLAGS|NEURON_COMPILE_CACHE_URL|NEURON_EXTRACT_GRAPHS_ONLY|NEURON_PARALLEL_COMPILE\w*|NEURON_DUMP\w*"
    r"|NEURON_PROFILE\w*|NEURON_RT_(?!VIRTUAL_CORE_SIZE|STOCHASTIC)\w*|XLA_PERSISTENT_CACHE\w*|XLA_METRICS\w*"
)
PRODUCT = Path("/sys/devices/virtual/dmi/id/product_name")  # on EC2 the instance type, such as trn1.2xlarge
LISTED = 1000  # graphs that a fingerprint lists at most


# ── what decides the graphs ─────────────────────────────────────────────────────────────────────────────────


def current_compiler() -> str | None:
    """The name of this environment's compiler as the cache's folders have it, or None where there is none."""
    versions = installed(("neuronx-cc", "torch-xla"))
    if "neuronx-cc" in versions:
        return NEURON + versions["neuronx-cc"]
    return XLA + versions["torch-xla"] if "torch-xla" in versions else None


def fingerprint(method: str, config, args, lora_rank: int, targets: Iterable[str] = ()) -> dict:
    """The fingerprint of a run. `config` is the model's, `args` the trainer's."""
    known = {f"model.{name}": value for name, value in architecture(config).items()}
    known |= {name: plain(getattr(args, name)) for name in f"{SHAPES} {NUMBERS}".split() if hasattr(args, name)}
    known |= {"method": method, "lora_rank": lora_rank, "processes": int(os.environ.get("WORLD_SIZE", "1"))}
    if lora_rank:
        known["lora_targets"] = sorted(targets)
    flags = settings.CACHE_DIR.sub("", os.environ.get(settings.FLAGS, "")).split()
    known |= {"compiler": current_compiler(), "compiler_flags": sorted(flags)}
    known |= {f"environment.{name}": value for name, value in shaping(os.environ)}
    if family := instance_family():
        known["environment.instance"] = family
    return known | {f"version.{name}": version for name, version in installed(PACKAGES.split()).items()}


def instance_family() -> str | None:
    """trn1, trn2, inf2, …: what graphs are compiled for unless a variable or flag says otherwise; None elsewhere."""
    found = re.match(r"(?:trn|inf)\d+", PRODUCT.read_text("utf-8")) if PRODUCT.is_file() else None
    return found[0] if found else None


def shaping(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, value) of the variables that may change a graph or its key, such as XLA_FLAGS or the compiler's target."""
    for name, value in sorted(environment.items()):
        if name.startswith(("XLA_", "NEURON_")) and not NO_SHAPE.fullmatch(name):
            yield name, value


def architecture(config) -> dict:
    """What a model's config says of its graph: sizes, kinds, constants; no names, token ids or ways to generate."""
    from transformers import PretrainedConfig

    general = PretrainedConfig().to_dict().keys() - {"model_type", "tie_word_embeddings"} | {"use_cache"}
    own = {name: value for name, value in config.to_dict().items() if name not in general and "token_id" not in name}
    return {name: value for name, value in own.items() if isinstance(value, (int, float, str)) or "rope" in name}


def plain(value):
    """An enum's value; everything else as it is."""
    return getattr(value, "value", value)


def digest(known: dict) -> str:
    """Sixteen hex digits, the file name of a fingerprint."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


# ── leaving it ──────────────────────────────────────────────────────────────────────────────────────────────


def graph_names(root: Path, compiler: str) -> set[str]:
    """Names of a compiler's graphs, finished or not."""
    return {item.found.name for item in walk(root) if item.kind == "graph" and item.compiler == compiler}


def leave(root: Path, known: dict, before: set[str], count: int | None = None) -> Path:
    """Write a finished run's fingerprint and return its file.

    before: the graphs there were when the run began. What is new since is the run's own; if it used more (`count`
    graphs in all), the others are among those of before. A run that found everything keeps what is noted already.
    """
    compiler = known["compiler"]
    own = sorted(graph_names(root, compiler) - before)
    path = root / compiler / FINGERPRINTS / f"{digest(known)}.json"
    noted = read_json(path, {})
    if noted and not own:
        own, among = noted["graphs"], noted["among"]
    else:
        among = sorted(before) if count is None or count > len(own) else []
    record = {"settings": known, "graphs": own[:LISTED], "among": among[:LISTED], "count": count}
    record |= {"date": datetime.now(UTC).isoformat(timespec="seconds")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    return path


@contextmanager
def remember(known: dict) -> Iterator[None]:
    """Leave the fingerprint of the run that the block is, if it ends well, its process is the first, and graphs are
    kept at all. A cache that can't be written to is told, and harms nothing."""
    root, before = kept_in(known["compiler"]), set()
    try:
        before = graph_names(root, known["compiler"]) if root else before
    except OSError as error:
        print(f"The compile cache can't be read ({error.strerror}): this run's fingerprint is not kept")
        root = None
    yield
    if root and os.environ.get("RANK", "0") == "0":
        try:
            leave(root, known, before, compiled_graphs() if "torch_xla" in sys.modules else None)
        except OSError as error:
            print(f"The compile cache can't be written to ({error.strerror}): this run's fingerprint is not kept")


def kept_in(compiler: str | None) -> Path | None:
    """The folder that graphs are kept in, or None: no compiler, --no_cache, or a rehearsal without a cache."""
    kept = compiler and settings.compiler_reads() and (compiler.startswith(NEURON) or os.environ.get(settings.URL))
    return settings.configured_path() if kept else None


# ── asking it ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answer:
    """yes, no or unknown, and why. `differs`: {setting: (known, asked)} against the nearest run that is known."""

    verdict: str
    why: str
    differs: dict[str, tuple] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verdict}: {self.why}"


def fingerprints(root: Path) -> list[dict]:
    """What finished runs left, newest first; a damaged file is left out."""
    found = []
    for _, path in fingerprint_files(root):
        with suppress(OSError, ValueError, TypeError):
            record = read_json(path)
            found += [record] if {"settings", "graphs", "among", "date"} <= set(record) else []
    return sorted(found, key=lambda record: record["date"], reverse=True)


def will_it_compile(root: Path, known: dict) -> Answer:
    """Whether a run of this fingerprint will compile anything that this cache does not have."""
    records = fingerprints(root)
    if not records:
        return Answer("unknown", f"no finished run has left its fingerprint in {root}")
    nearest = min(records, key=lambda record: len(differences(record["settings"], known)))
    if differs := differences(nearest["settings"], known):
        return told(differs)
    return of_known_run(root, nearest)


def differences(before: dict, now: dict) -> dict[str, tuple]:
    """{setting: (before, now)} where two fingerprints differ; a missing setting is None."""
    names = sorted(before.keys() | now.keys())
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def told(differs: dict[str, tuple]) -> Answer:
    """The answer for a run that differs from the nearest known one."""
    changes = ", ".join(f"{name} {then} → {now}" for name, (then, now) in list(differs.items())[:5])
    more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
    environment = {name for name in differs if name.startswith("environment.")}
    if set(differs) <= set(NUMBERS.split()) | environment:
        what = "the machine, or a variable of the compiler or of XLA" if environment else "a number in the step"
        why = f"{what}, which may or may not be part of a graph"
        return Answer("unknown", f"against the nearest known run, {changes} differs: {why}", differs)
    return Answer("yes", f"against the nearest known run, {changes}{more} differs", differs)


def of_known_run(root: Path, record: dict) -> Answer:
    """The answer for a run that is known: are its graphs here?"""
    compiler = record["settings"]["compiler"]
    here = {entry.name for entry in entries(root) if entry.state == "compiled" and entry.compiler == compiler}
    gone, perhaps = set(record["graphs"]) - here, set(record["among"]) - here
    run = f"the run of {record['date'][:10]} had the same settings"
    if gone:
        return Answer("yes", f"{run}, but {len(gone)} of its {len(record['graphs'])} graphs are not here any more")
    if perhaps:
        return Answer("unknown", f"{run}, but {len(perhaps)} graphs that it may have used are not here any more")
    if not record["graphs"] and not record["among"]:
        return Answer("unknown", f"{run}, but no graph of it was noted")
    return Answer("no", f"{run}, and its graphs are here")
