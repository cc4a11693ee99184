"""Gradients without ZeRO-1: their mean over data-parallel ranks, and clipping by their norm over the whole model."""

import torch
import torch_xla.core.xla_model as xm
from stood_in import absent
from torch.nn.utils import clip_grad_norm_

from neuronx_distributed.parallel_layers.parallel_state import (
    get_data_parallel_replica_groups,
    get_data_parallel_size,
    get_tensor_model_parallel_replica_groups,
    get_tensor_model_parallel_size,
)
from neuronx_distributed.parallel_layers.utils import param_is_not_tensor_parallel_duplicate


def bucket_allreduce_gradients(gradients, reduce_over_ep_group=False):
    ranks = get_data_parallel_size()
    for gradient in gradients if ranks > 1 else []:
        gradient.copy_(
            xm.all_reduce(xm.REDUCE_SUM, gradient, scale=1 / ranks, groups=get_data_parallel_replica_groups())
        )


def clip_grad_norm(parameters, max_norm, norm_type=2.0, **kwargs):
    parameters = list(parameters)
    if get_tensor_model_parallel_size() == 1:
        return clip_grad_norm_(parameters, max_norm, norm_type)
    counted = [p.grad for p in parameters if p.grad is not None and param_is_not_tensor_parallel_duplicate(p)]
    squares = sum((gradient.float() ** 2).sum() for gradient in counted)
    squares = xm.all_reduce(xm.REDUCE_SUM, squares, groups=get_tensor_model_parallel_replica_groups())
    norm = squares.sqrt()
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm


__getattr__ = absent(__name__)
