"""Linear layers and an embedding of which each rank of a tensor-parallel group holds a part."""

import torch
from stood_in import absent
from torch import nn

from neuronx_distributed.parallel_layers import mappings
from neuronx_distributed.parallel_layers.parallel_state import (
    get_tensor_model_parallel_group,
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_size,
)
from neuronx_distributed.parallel_layers.utils import divide, set_tensor_model_parallel_attributes


def create_local_weight(full_weight, partition_dim, per_partition_size, stride, out_weight=None):
    """This rank's share: of each of `stride` equal blocks its part, one after the other."""
    ranks, rank = get_tensor_model_parallel_size(), get_tensor_model_parallel_rank()
    if ranks == 1 and out_weight is None:
        return full_weight
    blocks = full_weight.chunk(stride, partition_dim)
    share = torch.cat([block.chunk(ranks, partition_dim)[rank] for block in blocks], partition_dim)
    if out_weight is None:
        return share
    with torch.no_grad():
        return out_weight.copy_(share)


class BaseParallelLinear(nn.Module):
    """A linear layer whose weight is split along `partition_dim` (0: outputs, 1: inputs)."""

    partition_dim = 0

    def __init__(
        self,
        input_size,
        output_size,
        bias=True,
        gather_output=True,
        input_is_parallel=False,
        dtype=None,
        device=None,
        stride=1,
        init_method=None,
        sequence_parallel_enabled=False,
        sequence_dimension=None,
        tensor_model_parallel_group=None,
        **options,
    ):
        super().__init__()
        self.input_size, self.output_size, self.stride = input_size, output_size, stride
        self.arg_init_method = init_method
        self.gather_output, self.input_is_parallel = gather_output, input_is_parallel
        self.sequence_parallel_enabled = sequence_parallel_enabled and get_tensor_model_parallel_size() > 1
        self.sequence_dimension = sequence_dimension or 0
        self.tensor_parallel_group = tensor_model_parallel_group or get_tensor_model_parallel_group()
        shape = [output_size, input_size]
        shape[self.partition_dim] = divide(shape[self.partition_dim], get_tensor_model_parallel_size())
        self.weight = nn.Parameter(torch.empty(*shape, dtype=dtype, device=device))
        bias_size = shape[0] if self.partition_dim == 0 else output_size
        self.bias = nn.Parameter(torch.empty(bias_size, dtype=dtype, device=device)) if bias else None
        self._mark(self.weight, self.partition_dim)
        if bias and self.partition_dim == 0:
            self._mark(self.bias, 0)
        elif bias:
            self.bias.sequence_parallel_enabled = self.sequence_parallel_enabled
        self.initialize_weight_and_bias()

    def _mark(self, parameter, dim):
        set_tensor_model_parallel_attributes(parameter, True, dim, self.stride, get_tensor_model_parallel_size())

    def initialize_weight_and_bias(self):
        """Every rank draws the whole weight and keeps its share, so that any number of ranks begins with the same."""
        if self.weight.device.type == "meta":
            return
        whole = torch.empty(self.output_size, self.input_size, dtype=self.weight.dtype, device=self.weight.device)
        (self.arg_init_method or nn.init.xavier_normal_)(whole)
        size = self.weight.shape[self.partition_dim]
        create_local_weight(whole, self.partition_dim, size, self.stride, out_weight=self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ColumnParallelLinear(BaseParallelLinear):
    """Each rank computes its part of the outputs."""

    partition_dim = 0

    def forward(self, inputs):
        if self.sequence_parallel_enabled:
            inputs = mappings.gather_from_sequence_parallel_region(inputs, self.sequence_dimension)
        else:
            inputs = mappings.copy_to_tensor_model_parallel_region(inputs)
        outputs = nn.functional.linear(inputs, self.weight, self.bias)
        return mappings.gather_from_tensor_model_parallel_region(outputs) if self.gather_output else outputs


class RowParallelLinear(BaseParallelLinear):
    """Each rank has its part of the inputs; the outputs are summed over ranks."""

    partition_dim = 1

    def forward(self, inputs):
        if not self.input_is_parallel:
            inputs = mappings.scatter_to_tensor_model_parallel_region(inputs)
        if get_tensor_model_parallel_size() == 1:
            return nn.functional.linear(inputs, self.weight, self.bias)
        outputs = nn.functional.linear(inputs, self.weight)
        if self.sequence_parallel_enabled:
            outputs = mappings.reduce_scatter_to_sequence_parallel_region(outputs, self.sequence_dimension)
        else:
            outputs = mappings.reduce_from_tensor_model_parallel_region(outputs)
        return outputs if self.bias is None else outputs + self.bias


class ParallelEmbedding(nn.Embedding):
    """Each rank looks up the tokens of its part of the vocabulary; the embeddings are summed over ranks.

    With sequence parallelism the result is (this rank's part of the sequence, batch, hidden).
    """

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        init_method=None,
        dtype=None,
        sequence_parallel_enabled=False,
        sequence_dimension=None,
        **kwargs,
    ):
        ranks = get_tensor_model_parallel_size()
        self.num_embeddings_per_partition = divide(num_embeddings, ranks)
        local_padding = padding_idx if ranks == 1 else None
        super().__init__(self.num_embeddings_per_partition, embedding_dim, local_padding, dtype=dtype)
        self.num_embeddings = num_embeddings
        self.sequence_parallel_enabled = sequence_parallel_enabled and ranks > 1
        self.sequence_dimension = sequence_dimension or 0
        set_tensor_model_parallel_attributes(self.weight, True, 0, 1, ranks)
        if init_method is not None and self.weight.device.type != "meta":
            whole = torch.empty(num_embeddings, embedding_dim, dtype=self.weight.dtype, device=self.weight.device)
            init_method(whole)
            create_local_weight(whole, 0, self.num_embeddings_per_partition, 1, out_weight=self.weight)

    def forward(self, tokens):
        if get_tensor_model_parallel_size() == 1:
            return super().forward(tokens)
        local = tokens - get_tensor_model_parallel_rank() * self.num_embeddings_per_partition
        here = (local >= 0) & (local < self.num_embeddings_per_partition)
        embedded = super().forward(torch.where(here, local, 0)) * here.unsqueeze(-1)
        if not self.sequence_parallel_enabled:
            return mappings.reduce_from_tensor_model_parallel_region(embedded)
        embedded = embedded.transpose(0, 1) if self.sequence_dimension == 0 else embedded
        return mappings.reduce_scatter_to_sequence_parallel_region(embedded, self.sequence_dimension)


__getattr__ = absent(__name__)
