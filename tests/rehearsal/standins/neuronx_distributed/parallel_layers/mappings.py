"""What a tensor passes at the border of a tensor-parallel region: a collective forward, and its adjoint backward.

(Shoeybi et al. 2019, arXiv 1909.08053; with sequence parallelism Korthikanti et al. 2022, arXiv 2205.05198.)
"""

import torch
import torch.distributed as dist
from stood_in import absent

from neuronx_distributed.parallel_layers.parallel_state import (
    get_tensor_model_parallel_group,
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_size,
)


def _same(tensor, dim):
    return tensor


def _sum(tensor, dim):
    """Summed in place, as NxD does it: Optimum Neuron relies on that for the gradients of norms."""
    dist.all_reduce(tensor, group=get_tensor_model_parallel_group())
    return tensor


def _gather(tensor, dim):
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(_size())]
    dist.all_gather(parts, tensor.contiguous(), group=get_tensor_model_parallel_group())
    return torch.cat(parts, dim)


def _split(tensor, dim):
    if tensor.shape[dim] % _size():
        raise ValueError(f"dimension {dim} of {tuple(tensor.shape)} is not divisible by {_size()}")
    return tensor.chunk(_size(), dim)[get_tensor_model_parallel_rank()].contiguous()


def _sum_and_split(tensor, dim):
    return _split(_sum(tensor.contiguous().clone(), dim), dim)


_size = get_tensor_model_parallel_size


class _Border(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, forth, back, dim):
        ctx.back, ctx.dim = back, dim
        if forth is _sum:
            ctx.mark_dirty(tensor)
        return tensor.view_as(tensor) if forth is _same else forth(tensor, dim)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone() if ctx.back is _sum else gradient
        return ctx.back(gradient, ctx.dim), None, None, None


def _cross(tensor, forth, back, dim):
    return tensor if _size() == 1 else _Border.apply(tensor, forth, back, dim)


def copy_to_tensor_model_parallel_region(tensor, process_group=None):
    return _cross(tensor, _same, _sum, None)


def reduce_from_tensor_model_parallel_region(tensor, process_group=None):
    return _cross(tensor, _sum, _same, None)


def scatter_to_tensor_model_parallel_region(tensor, process_group=None):
    return _cross(tensor, _split, _gather, -1)


def gather_from_tensor_model_parallel_region(tensor, process_group=None):
    return _cross(tensor, _gather, _split, -1)


def scatter_to_sequence_parallel_region(tensor, sequence_dimension=0, process_group=None):
    return _cross(tensor, _split, _gather, sequence_dimension)


def gather_from_sequence_parallel_region(tensor, sequence_dimension=0, to_model_parallel=True, process_group=None):
    return _cross(tensor, _gather, _sum_and_split if to_model_parallel else _split, sequence_dimension)


def reduce_scatter_to_sequence_parallel_region(tensor, sequence_dimension=0, process_group=None):
    return _cross(tensor, _sum_and_split, _gather, sequence_dimension)


__getattr__ = absent(__name__)
