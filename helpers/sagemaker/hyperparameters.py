"""Hyperparameters of a job, read as its container will read them: names, values, sizes that divide.

scripts/train.py would refuse a wrong one too, but only after the instance, its image and its packages were paid for.
"""

import difflib
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from transformers import HfArgumentParser

from helpers.neuron.refusals import refuse_model, refuse_uneven, refuse_uneven_length
from helpers.sagemaker.plan_inputs import TRAINED_HERE
from helpers.training.base_model import HUB_TWIN, PACKAGED
from helpers.training.sizes import Sizes, sizes_of

METHODS = ("sft", "orpo", "dpo")
# Arguments of scripts/train.py that scripts/sagemaker_entry.py gives
SET_BY_THE_JOB = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "start_from_checkpoint")
LENGTHS = ("max_length", "row_length", "max_response_length")


@dataclass
class OfTheScript:
    """What scripts/train.py adds to the arguments of transformers and TRL, as far as a job may set it."""

    method: str
    model: str = ""
    data: str = ""
    pairs: int | None = None
    system_in_user: bool = False
    lora_rank: int = 0
    backend: str | None = None


@dataclass
class OfOptimumNeuron:
    """What Optimum Neuron 0.4.5 adds (optimum/neuron/trainers/training_args.py). Its package need not be here."""

    dataloader_prefetch_size: int = 0
    skip_cache_push: bool = True
    use_autocast: bool = False
    zero_1: bool = True
    stochastic_rounding_enabled: bool = True
    optimizer_use_master_weights: bool = True
    optimizer_use_fp32_grad_acc: bool = True
    optimizer_save_master_weights_in_ckpt: bool = False
    tensor_parallel_size: int = 1
    disable_sequence_parallel: bool = False
    pipeline_parallel_size: int = 1
    pipeline_parallel_num_microbatches: int = 1
    kv_size_multiplier: int | None = None
    num_local_ranks_per_step: int = 0
    use_xser: bool = True
    async_save: bool = False
    fuse_qkv: bool = False
    recompute_causal_mask: bool = True
    enable_throughput_metrics: bool = False
    enable_mfu_metrics: bool = False
    enable_efficiency_metrics: bool = False
    metrics_window_size: int = 0


@dataclass
class OfPairsOnTrainium:
    """What the workshop's trainers of preference pairs add there."""

    row_length: int | None = None
    max_response_length: int | None = None


class Parser(HfArgumentParser):
    """Says in a ValueError which value can't be read."""

    def error(self, message: str):
        said = re.sub(r"^argument --(\w+)(/--[\w-]+)*", r"\1", message)  # an argument may have two spellings
        raise ValueError(f"hyperparameters, {said}: give a value of that kind")


@functools.cache
def parser_of(method: str) -> Parser:
    """The arguments of scripts/train.py with this method: on a CPU, a GPU or a Trainium."""
    if method == "sft":
        from trl import SFTConfig as Config
    elif method == "dpo":
        from helpers.training.dpo import DPOConfig as Config
    else:
        from helpers.training.orpo import ORPOConfig as Config
    ours = [OfTheScript, OfOptimumNeuron, *([] if method == "sft" else [OfPairsOnTrainium])]
    return Parser([Config, *ours], conflict_handler="resolve")


def read(values: dict):
    """The values as arguments of scripts/train.py; a ValueError for a name or a value that it would refuse."""
    method = values.get("method")
    if method not in METHODS:
        raise ValueError(f"hyperparameters, method: is {method!r}; choose {', '.join(METHODS)}")
    for name in SET_BY_THE_JOB:
        if name in values:
            raise ValueError(f"hyperparameters, {name}: the job sets it: leave it out")
    parser = parser_of(method)
    found, unknown = parser.parse_known_args([f"--{name}={value}" for name, value in values.items()])
    if unknown:
        name = unknown[0].removeprefix("--").partition("=")[0]
        near = difflib.get_close_matches(name, [action.dest for action in parser._actions], 1)
        fix = f"did you mean {near[0]}?" if near else "leave it out"
        raise ValueError(f"hyperparameters, {name}: is no argument of scripts/train.py with method {method}: {fix}")
    if found.per_device_train_batch_size < 1:
        raise ValueError("hyperparameters, per_device_train_batch_size: give 1 or more")
    return found


def check_hyperparameters(job) -> None:
    """A ValueError of one line for hyperparameters that scripts/train.py would refuse, or that train on no Trainium."""
    found = read(job.hyperparameters)
    if found.pipeline_parallel_size != 1:
        raise ValueError("pipeline_parallel_size: the preference loss needs the whole model; leave it out")
    size, cores = found.tensor_parallel_size, job.cores
    if size < 1 or cores % size:
        raise ValueError(
            f"tensor_parallel_size {size} does not divide the {cores} cores of {job.instance_type} "
            f"({cores * job.instance_count} in all): choose "
            f"{', '.join(str(number) for number in range(1, cores + 1) if cores % number == 0)}"
        )
    if on_trainium(job):
        check_model(found.model or job.environment.get("WORKSHOP_MODEL") or PACKAGED, size)
        for name in LENGTHS:
            if name in job.hyperparameters:
                refuse_uneven_length(name, found)
    if found.pairs is not None:
        check_pairs(job, found.pairs)


def on_trainium(job) -> bool:
    """True unless the job trains on another kind of instance, or rehearses on a CPU."""
    backend = job.hyperparameters.get("backend") or job.environment.get("WORKSHOP_BACKEND")
    return ".trn" in job.instance_type and backend in (None, "", "neuron")


def check_model(name: str, ranks: int) -> None:
    """The container can have the model, and its heads and matrices can be shared by the cores, if it is known here."""
    if Path(name).expanduser().is_dir() or Path(name).is_absolute():
        raise ValueError(f"hyperparameters, model: {name} is a folder, which the job does not get: give a hub id")
    try:
        sizes = sizes_of(HUB_TWIN if name == PACKAGED else name)
    except (ValueError, OSError):
        return  # sizes that nobody knows here
    refuse_model(config_of(sizes), ranks)
    if sizes.kind not in TRAINED_HERE:
        kinds = " and ".join(kind.title() for kind in TRAINED_HERE)
        raise ValueError(f"hyperparameters, model: {name} is a {sizes.kind}; on Trainium this workshop trains {kinds}")


def config_of(sizes: Sizes) -> SimpleNamespace:
    """Sizes under the names of a configuration of transformers."""
    heads = {"num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads}
    return SimpleNamespace(
        model_type=sizes.kind, vocab_size=sizes.vocabulary, intermediate_size=sizes.intermediate, **heads
    )


def check_pairs(job, pairs: int) -> None:
    """On Trainium: so many pairs fill a batch, which every copy of the model takes a part of."""
    if not on_trainium(job):
        return
    ranks = int(job.hyperparameters.get("tensor_parallel_size", 1))
    args = SimpleNamespace(
        per_device_train_batch_size=int(job.hyperparameters.get("per_device_train_batch_size", 1)),
        trn_config=SimpleNamespace(data_parallel_size=job.cores * job.instance_count // ranks),
        dataloader_drop_last=True,
    )
    refuse_uneven(pairs, args)
