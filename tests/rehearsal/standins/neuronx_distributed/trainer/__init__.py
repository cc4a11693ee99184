"""Sharded checkpoints: <path>/<tag>/model/dp_rank_00_tp_rank_XX_pp_rank_00.pt and what belongs to them.

With `use_xser` a shard is a file of references beside a folder `<shard>.tensors` of one file a tensor. A file
`checkpoint` says that saving began, `done` that it ended. With `async_save` a thread writes, and whoever reads must
wait for it (`checkpoint.g_iostate`).
"""

from pathlib import Path

import torch
import torch_xla.core.xla_model as xm
from stood_in import absent

from neuronx_distributed.parallel_layers.parallel_state import (
    get_data_parallel_rank,
    get_tensor_model_parallel_rank,
)
from neuronx_distributed.trainer import checkpoint


def save_checkpoint(path, tag, model=None, optimizer=None, use_xser=False, async_save=False, **kwargs):
    folder, tensor, data = Path(path) / tag, get_tensor_model_parallel_rank(), get_data_parallel_rank()
    if xm.is_master_ordinal():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint").touch()
    todo = []
    if model is not None and data == 0:
        weights = model if isinstance(model, dict) else model.state_dict()
        todo.append((folder / "model" / f"dp_rank_00_tp_rank_{tensor:02d}_pp_rank_00.pt", weights))
    if optimizer is not None:
        shard = folder / "optim" / f"dp_rank_{data:02d}_tp_rank_{tensor:02d}_pp_rank_00.pt"
        todo.append((shard, optimizer.state_dict()))
    todo = [(file, _on_the_host(content)) for file, content in todo]
    if async_save:
        checkpoint.g_iostate = checkpoint.IOState(lambda: _write(todo, folder, use_xser))
        return
    _write(todo, folder, use_xser)
    xm.rendezvous("saved")


def _on_the_host(content):
    return xm.ToXlaTensorArena(
        lambda tensors: [tensor.detach().cpu().clone() for tensor in tensors],
        lambda value: isinstance(value, torch.Tensor),
    ).transform(content)


def _write(todo, folder, use_xser):
    folder.mkdir(parents=True, exist_ok=True)  # a data-parallel rank may come before the first one
    for file, content in todo:
        file.parent.mkdir(parents=True, exist_ok=True)
        if use_xser:
            content = _beside(content, Path(f"{file}.tensors"))
        torch.save(content, file)
    (folder / "done").touch()


def _beside(content, folder):
    """Every tensor into a file of its own; returns the content with references instead."""
    from torch_xla.utils.serialization import TensorReference

    folder.mkdir(parents=True, exist_ok=True)

    def refer(tensors):
        for number, tensor in enumerate(tensors):
            torch.save(tensor, folder / f"tensor_{number}.pt")
        return [TensorReference(number) for number in range(len(tensors))]

    return xm.ToXlaTensorArena(refer, lambda value: isinstance(value, torch.Tensor)).transform(content)


__getattr__ = absent(__name__)
