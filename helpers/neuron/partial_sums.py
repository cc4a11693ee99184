"""Gradients that each tensor-parallel rank knows only a part of, and that Optimum Neuron 0.4.5 does not add up.

A parameter that every rank has a copy of must get the same gradient on every rank. It gets a part of it where the rank
saw only some of the positions (sequence parallelism: every copied parameter, LoRA's among them) or only some of the
heads (Qwen3's `q_norm` and `k_norm`). Optimum Neuron adds up the norms that carry a mark, from `grad`, before the
optimizer steps (`optimum/neuron/accelerate/optimizer.py`): LoRA's matrices and Qwen3's norms carry none, and with
ZeRO-1 in bf16 the gradient is in `main_grad` by then. A hook on the parameter works in all these cases, since it runs
before the gradient is kept anywhere.
"""

import torch
from neuronx_distributed.parallel_layers.mappings import reduce_from_tensor_model_parallel_region
from transformers import TrainerCallback

PER_HEAD = ("q_norm", "k_norm")


class SumPartialGradients(TrainerCallback):
    """Places the hooks when training begins, once the parameters are those that the optimizer has."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for parameter in partially_summed(model, args.trn_config.sequence_parallel_enabled).values():
            parameter.sequence_parallel_enabled = False  # else it would be added up twice
            parameter.register_hook(summed_over_ranks)


def partially_summed(model, sequence_parallel: bool) -> dict[str, torch.nn.Parameter]:
    """The trained parameters, by name, whose gradient is the sum of what the tensor-parallel ranks have."""
    copied = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not getattr(parameter, "tensor_model_parallel", False)
    }
    if sequence_parallel:
        return copied
    return {name: parameter for name, parameter in copied.items() if name.split(".")[-2] in PER_HEAD}


def summed_over_ranks(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient, added up over the tensor-parallel group (NxD adds in place: into a copy)."""
    return reduce_from_tensor_model_parallel_region(gradient.clone())


def fix_partial_sums(trainer) -> list[str]:
    """Make a NeuronTrainer add up partial gradients; returns what was changed, in words."""
    if trainer.args.trn_config.tensor_parallel_size == 1:
        return []
    trainer.add_callback(SumPartialGradients())
    return ["gradients that a rank has only in part (LoRA, norms) are added up"]
