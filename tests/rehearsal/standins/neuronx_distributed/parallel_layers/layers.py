"""Parallel layers of a tensor-parallel group of one: ordinary layers that carry the attributes Optimum Neuron reads."""

import torch
from torch import nn

from neuronx_distributed.absent import absent

ATTRIBUTES = ("tensor_model_parallel", "partition_dim", "partition_stride", "num_partitions")


def _mark(parameter, partition_dim, stride=1):
    for name, value in zip(ATTRIBUTES, (True, partition_dim, stride, 1), strict=True):
        setattr(parameter, name, value)


def create_local_weight(full_weight, partition_dim, per_partition_size, stride, out_weight=None):
    """This rank's share of a weight: all of it."""
    if out_weight is None:
        return full_weight
    with torch.no_grad():
        return out_weight.copy_(full_weight)


class BaseParallelLinear(nn.Module):
    partition_dim = 0

    def __init__(
        self, input_size, output_size, bias=True, dtype=None, device=None, stride=1, init_method=None, **options
    ):
        super().__init__()
        self.input_size, self.output_size, self.stride, self.arg_init_method = (
            input_size,
            output_size,
            stride,
            init_method,
        )
        self.input_is_parallel, self.gather_output = options.get("input_is_parallel"), options.get("gather_output")
        self.sequence_parallel_enabled, self.sequence_dimension = False, options.get("sequence_dimension")
        self.tensor_parallel_group = None
        self.weight = nn.Parameter(torch.empty(output_size, input_size, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.empty(output_size, dtype=dtype, device=device)) if bias else None
        _mark(self.weight, self.partition_dim, stride)
        self.initialize_weight_and_bias()

    def initialize_weight_and_bias(self):
        if self.weight.device.type == "meta":
            return
        (self.arg_init_method or nn.init.xavier_normal_)(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.weight, self.bias)


class ColumnParallelLinear(BaseParallelLinear):
    partition_dim = 0


class RowParallelLinear(BaseParallelLinear):
    partition_dim = 1


class ParallelEmbedding(nn.Embedding):
    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, init_method=None, dtype=None, **kwargs):
        super().__init__(num_embeddings, embedding_dim, padding_idx, dtype=dtype)
        self.num_embeddings_per_partition = num_embeddings
        if init_method is not None:
            init_method(self.weight)
        _mark(self.weight, 0)


__getattr__ = absent(__name__)
