from neuronx_distributed.absent import absent
from neuronx_distributed.utils.model_utils import move_model_to_device


def divide(numerator, denominator):
    if numerator % denominator:
        raise ValueError(f"{numerator} is not divisible by {denominator}")
    return numerator // denominator


def get_local_world_size():
    return 1


class EmbeddingUtility:
    """Which rows of the vocabulary a rank holds: [start, end)."""

    @staticmethod
    def range_from_per_partition_vocab_size(per_partition_vocab_size, rank, world_size):
        return rank * per_partition_vocab_size, (rank + 1) * per_partition_vocab_size


__getattr__ = absent(__name__)
