"""What NeuronTrainer can't do, said with what to change before a graph is compiled.

What the arguments tell is refused when they are made, what the model's configuration tells before its weights are
read, and the rest when the trainer is made. Importing this module needs no accelerator software.
"""

import os
from collections.abc import Iterable

DOWNCASTS = ("XLA_DOWNCAST_BF16", "XLA_USE_BF16")
# What a tensor-parallel group must split evenly, and what happens otherwise
EVEN = {
    "vocab_size": "splits it evenly",
    "num_attention_heads": "splits heads evenly",
    "num_key_value_heads": "then copies or pads key and value heads, which is wrong for some models",
    "intermediate_size": "splits it evenly",
}
NO_EVALUATION = "NeuronTrainer has no evaluation during training: leave out {}, evaluate afterwards"


def refuse_arguments(args) -> None:
    """Raise a ValueError for arguments, or switches in the environment, that no model would make right."""
    refuse_downcasts()
    if args.pipeline_parallel_size > 1:
        raise ValueError("pipeline_parallel_size > 1: its loss is computed inside the model; use tensor parallelism")
    if getattr(args.eval_strategy, "value", args.eval_strategy) != "no":
        raise ValueError(NO_EVALUATION.format("eval_strategy"))
    if args.resume_from_checkpoint:
        raise ValueError(
            "NeuronTrainer can't resume: leave out resume_from_checkpoint and load the checkpoint as model, as "
            "scripts/train.py does with --start_from_checkpoint"
        )
    refuse_uneven_length("row_length" if getattr(args, "layout", "rows") == "shared" else "max_length", args)
    refuse_uneven_length("max_response_length", args)


def refuse_uneven_length(name: str, args) -> None:
    """Sequence parallelism, on unless disabled, gives each rank an equal part of every row, and of the positions that
    get logits. None is not known yet."""
    ranks, length = args.tensor_parallel_size, getattr(args, name, None)
    if length is not None and not args.disable_sequence_parallel and length % ranks:
        raise ValueError(
            f"{name} {length} is not divisible by tensor_parallel_size {ranks}, as sequence parallelism needs it: "
            f"choose {length + ranks - length % ranks}, or disable_sequence_parallel=True"
        )


def refuse_downcasts() -> None:
    """XLA's bf16 switches turn the float32 that the odds need into bf16."""
    if on := [name for name in DOWNCASTS if os.environ.get(name, "0").lower() not in ("", "0", "false")]:
        raise ValueError(
            f"{on[0]} is set and would make float32 bf16, in which the odds break: unset it, use bf16=True"
        )


def refuse_model(config, tensor_parallel_size: int) -> None:
    """Raise a ValueError for a model that would train wrongly, or not at all. `config` is the model's.

    Granite is saved with a configuration that says Llama, at any size, so that transformers would load another model;
    with tensor parallelism its loss is wrong, too (`optimum/neuron/models/training/granite/modeling_granite.py`).
    """
    if getattr(config, "model_type", None) == "granite":
        raise ValueError("Granite: Optimum Neuron 0.4.5 saves it as a Llama, another model: train a Llama or a Qwen3")
    sizes = {name: size for name in EVEN if (size := getattr(config, name, None)) is not None}
    for name, size in sizes.items():
        if size % tensor_parallel_size:
            raise ValueError(
                f"tensor_parallel_size {tensor_parallel_size} does not divide {name} {size}, and Optimum Neuron 0.4.5 "
                f"{EVEN[name]}: choose one of {dividing(sizes.values())}"
            )


def dividing(sizes: Iterable[int], most: int = 64) -> str:
    """The numbers of cores, of at most so many, that divide all of these sizes, in words."""
    sizes = list(sizes)
    return ", ".join(str(ranks) for ranks in range(1, most + 1) if not any(size % ranks for size in sizes))


def refuse_uneven(pairs: int, args) -> None:
    """Every batch has the same shape, so a smaller last one must be dropped, and there must be a whole one."""
    batch = args.per_device_train_batch_size * args.trn_config.data_parallel_size
    if pairs < batch:
        raise ValueError(f"{pairs} pairs do not fill one batch of {batch}: lower per_device_train_batch_size")
    if pairs % batch and not args.dataloader_drop_last:
        raise ValueError(
            f"the last batch would hold {pairs % batch} of {batch} pairs, a new shape and a new graph: "
            "set dataloader_drop_last=True"
        )


def refuse_unsupported(model, args, train_dataset, eval_dataset=None) -> None:
    """All of the above, and a model that Optimum Neuron can't train or that the layout can't use."""
    from optimum.neuron.models.training.modeling_utils import NeuronModelMixin

    refuse_arguments(args)
    if eval_dataset is not None:
        raise ValueError(NO_EVALUATION.format("eval_dataset"))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    shared = getattr(args, "layout", "rows") == "shared"
    if shared and base.config._attn_implementation == "flash_attention_2":
        raise ValueError("layout='shared' needs a mask that the flash kernel can't take: use layout='rows', or eager")
    if not isinstance(base, NeuronModelMixin):
        raise ValueError(
            f"{type(base).__name__} is no training model of Optimum Neuron, which has Llama, Qwen3 and Granite: load "
            "it with optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)"
        )
    if shared and base.trn_config.recompute_causal_mask:
        raise ValueError("layout='shared' needs its mask: load the model with the args.trn_config of these args")
    refuse_model(base.config, args.trn_config.tensor_parallel_size)
    refuse_uneven(len(train_dataset), args)
