"""Which processes share a model (neighbours: a tensor-parallel group) and which share its work (data parallel)."""

import torch.distributed as dist
from stood_in import absent

_state = {}  # "tensor" and "data" → (this process's group, the ranks of every group)


def initialize_model_parallel(tensor_model_parallel_size=1, pipeline_model_parallel_size=1, **kwargs):
    """Split the world into groups. Every process calls this once."""
    if pipeline_model_parallel_size != 1:
        raise NotImplementedError("the stand-in has no pipeline parallelism")
    assert not _state, "model parallelism is already initialized"
    world, tensor = dist.get_world_size(), tensor_model_parallel_size
    if world % tensor:
        raise RuntimeError(f"world size {world} is not divisible by tensor parallel size {tensor}")
    neighbours = [list(range(first, first + tensor)) for first in range(0, world, tensor)]
    strided = [list(range(first, world, tensor)) for first in range(tensor)]
    _state.update(tensor=(_own(neighbours), neighbours), data=(_own(strided), strided))


def _own(meshes):
    """This process's group. A group is made by all processes, also those outside it."""
    if len(meshes) == 1:
        return dist.group.WORLD
    if dist.get_backend() == "gloo":
        groups = [dist.new_group(ranks, backend="gloo") for ranks in meshes]
        return next(group for group, ranks in zip(groups, meshes, strict=True) if dist.get_rank() in ranks)
    raise NotImplementedError("the stand-in has several processes with gloo only")


def model_parallel_is_initialized():
    return bool(_state)


def destroy_model_parallel():
    _state.clear()


def _get(kind, as_list=False):
    assert _state, f"{kind} parallel group is not initialized: call initialize_model_parallel first"
    group, meshes = _state[kind]
    return meshes if as_list else group


def _size(kind):
    return len(_get(kind, as_list=True)[0])


def _rank(kind):
    return next(ranks.index(dist.get_rank()) for ranks in _get(kind, as_list=True) if dist.get_rank() in ranks)


def _one(*args, **kwargs):
    _get("tensor")  # asserts
    return 1


def _zero(*args, **kwargs):
    return _one() - 1


def get_tensor_model_parallel_group(as_list=False):
    return _get("tensor", as_list)


def get_data_parallel_group(as_list=False):
    return _get("data", as_list)


def get_tensor_model_parallel_replica_groups():
    return _get("tensor", as_list=True)


def get_data_parallel_replica_groups():
    return _get("data", as_list=True)


def get_tensor_model_parallel_size():
    return _size("tensor")


def get_data_parallel_size():
    return _size("data")


def get_tensor_model_parallel_rank():
    return _rank("tensor")


def get_data_parallel_rank():
    return _rank("data")


get_pipeline_model_parallel_size = get_context_model_parallel_size = get_expert_model_parallel_size = _one
get_pipeline_model_parallel_rank = get_context_model_parallel_rank = get_expert_model_parallel_rank = _zero
__getattr__ = absent(__name__)
