"""Several processes: torch_xla's calls, answered for plain CPU tensors by torch.distributed with gloo.

XLA's CPU device knows no second process. So in a rehearsal of several the tensors lie on the CPU, a step is executed
line by line, and the collectives of torch_xla are gloo's. Graphs are counted in one process, on XLA's device.
"""

import os

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
_groups = {}  # a tuple of the ranks of every group → this process's group


class NoXLA(TorchFunctionMode):
    """Tensors that are asked for on device "xla" are made on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if str(kwargs.get("device")).startswith("xla"):
            kwargs = kwargs | {"device": CPU}
        return function(*args, **kwargs)


def start() -> None:
    """Make this process, started with RANK, WORLD_SIZE and MASTER_PORT, one of several on CPU tensors.

    Call it before Optimum Neuron is imported, and `join_when_asked` afterwards.
    """
    import torch_xla
    import torch_xla.core.xla_model as xm
    import torch_xla.runtime as xr

    os.environ.pop("TORCHELASTIC_RUN_ID", None)  # else Optimum Neuron insists on torch_xla's backend
    os.environ["NXD_CPU_MODE"] = "1"  # how the real neuronx_distributed is told
    NoXLA().__enter__()  # until the process ends
    torch_xla.device = xm.xla_device = lambda *args, **kwargs: CPU
    torch_xla.sync = xm.mark_step = xm.set_replication = lambda *args, **kwargs: None
    xm.add_step_closure = lambda closure, args=(), run_async=False: closure(*args)
    xm.rendezvous = lambda *args, **kwargs: dist.barrier()
    xm.is_master_ordinal = lambda local=True: dist.get_rank() == 0
    xm.get_ordinal = xm.get_local_ordinal = xr.global_ordinal = xr.local_ordinal = dist.get_rank
    xm.xrt_world_size = xr.world_size = xr.global_device_count = dist.get_world_size
    xm.all_reduce, xm.all_gather, xm.reduce_scatter = all_reduce, all_gather, reduce_scatter
    xm.all_gather_bucketized, xm.reduce_scatter_bucketized = all_gather, reduce_scatter


def join() -> None:
    """Meet the other processes, once. Only when a configuration is made: then NxD's parallel state is made, too, which
    Optimum Neuron asks for ranks wherever processes have met."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")


def join_when_asked() -> None:
    """Optimum Neuron's way to meet insists on torch_xla's backend."""
    import optimum.neuron.accelerate.state as state
    import optimum.neuron.models.training.config as config

    state.init_process_group = config.init_process_group = join


def group_of(groups):
    """This process's group of `groups` (None: of all). All processes ask for the same ones in the same order."""
    if groups is None or len(groups) == 1:
        return dist.group.WORLD
    key = tuple(map(tuple, groups))
    if key not in _groups:
        made = [dist.new_group(list(ranks)) for ranks in key]
        _groups[key] = next(group for group, ranks in zip(made, key, strict=True) if dist.get_rank() in ranks)
    return _groups[key]


def all_reduce(reduce_type, inputs, scale=1.0, groups=None, pin_layout=True):
    """Of a tensor the result; a list of tensors in place."""
    if isinstance(inputs, torch.Tensor):
        result = inputs.clone()
        dist.all_reduce(result, getattr(dist.ReduceOp, reduce_type.upper()), group_of(groups))
        return result * scale if scale != 1.0 else result
    for tensor in inputs:
        tensor.copy_(all_reduce(reduce_type, tensor, scale, groups))


def all_gather(value, dim=0, groups=None, output=None, pin_layout=True, bucket_cap_mb=None):
    """`value` of every rank, one after the other along `dim`."""
    if pin_layout:
        raise RuntimeError("all_gather with pin_layout=True writes its rank into the graph: one graph a rank")
    if not isinstance(value, torch.Tensor):
        gathered = [all_gather(each, dim, groups, None, pin_layout) for each in value]
        return gathered if output is None else [o.copy_(g) for o, g in zip(output, gathered, strict=True)]
    group = group_of(groups)
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, value.contiguous(), group)
    gathered = torch.cat(parts, dim)
    return gathered if output is None else output.copy_(gathered)


def reduce_scatter(
    reduce_type,
    input,
    scale,
    scatter_dim,
    shard_count,
    groups=None,
    output=None,
    pin_layout=True,
    bucket_cap_mb=None,
):
    """This rank's part, along `scatter_dim`, of the sum over ranks."""
    if not isinstance(input, torch.Tensor):
        given = output if output is not None else [None] * len(input)
        rest = scale, scatter_dim, shard_count, groups
        return [reduce_scatter(reduce_type, each, *rest, o) for each, o in zip(input, given, strict=True)]
    whole = all_reduce(reduce_type, input, scale, groups)
    part = whole.chunk(shard_count, scatter_dim)[dist.get_group_rank(group_of(groups), dist.get_rank())]
    return part.contiguous() if output is None else output.copy_(part)
