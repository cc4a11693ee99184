"""Sizes 1, ranks 0, groups of this process alone."""

from neuronx_distributed.absent import absent

_initialized = False


def initialize_model_parallel(tensor_model_parallel_size=1, pipeline_model_parallel_size=1, **kwargs):
    if (tensor_model_parallel_size, pipeline_model_parallel_size) != (1, 1):
        raise NotImplementedError("the stand-in is one process: tensor and pipeline parallel sizes are 1")
    global _initialized
    _initialized = True


def model_parallel_is_initialized():
    return _initialized


def _size(*args, **kwargs):
    return 1


def _rank(*args, **kwargs):
    return 0


def _replica_groups(*args, **kwargs):
    return [[0]]


get_tensor_model_parallel_size = get_pipeline_model_parallel_size = get_context_model_parallel_size = _size
get_data_parallel_size = get_expert_model_parallel_size = _size
get_tensor_model_parallel_rank = get_pipeline_model_parallel_rank = get_context_model_parallel_rank = _rank
get_data_parallel_rank = get_expert_model_parallel_rank = _rank
get_data_parallel_replica_groups = get_tensor_model_parallel_replica_groups = _replica_groups
__getattr__ = absent(__name__)
