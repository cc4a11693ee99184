import os

from stood_in import absent

ATTRIBUTES = ("tensor_model_parallel", "partition_dim", "partition_stride", "num_partitions")


def set_tensor_model_parallel_attributes(tensor, is_parallel, dim, stride=1, num_partitions=1):
    """What Optimum Neuron reads to split, save and join a parameter."""
    for name, value in zip(ATTRIBUTES, (is_parallel, dim, stride, num_partitions), strict=True):
        setattr(tensor, name, value)


def param_is_not_tensor_parallel_duplicate(parameter):
    """True where this rank's parameter counts for a norm over the tensor-parallel group: parts, and one of copies."""
    from neuronx_distributed.parallel_layers.parallel_state import get_tensor_model_parallel_rank

    return getattr(parameter, "tensor_model_parallel", False) or get_tensor_model_parallel_rank() == 0


def divide(numerator, denominator):
    if numerator % denominator:
        raise ValueError(f"{numerator} is not divisible by {denominator}")
    return numerator // denominator


def get_local_world_size():
    return int(os.environ["LOCAL_WORLD_SIZE"])


class EmbeddingUtility:
    """Which rows of the vocabulary a rank holds: [start, end)."""

    @staticmethod
    def range_from_per_partition_vocab_size(per_partition_vocab_size, rank, world_size):
        return rank * per_partition_vocab_size, (rank + 1) * per_partition_vocab_size


def move_model_to_device(model, device):
    from neuronx_distributed.utils.model_utils import move_model_to_device

    move_model_to_device(model, device)


__getattr__ = absent(__name__)
