"""From Optimum Neuron's sharded checkpoint to the ordinary model or adapter that transformers and PEFT load."""

import os
import shutil
from pathlib import Path

import torch_xla.core.xla_model as xm
from optimum.neuron.models.training import consolidate_model_parallel_checkpoints_to_unified_checkpoint
from optimum.neuron.models.training.modeling_utils import MODEL_PARALLEL_SHARDS_DIR_NAME, _wait_previous_async_save
from optimum.neuron.peft.peft_model import ADAPTER_MODEL_PARALLEL_SHARDS_DIR_NAME

from helpers.files import make_atomically
from helpers.runs.lock import Lock

ADAPTER = "adapter_default"  # where Optimum Neuron puts an adapter's config and shards
CONFIGS = ("config.json", "generation_config.json", "adapter_config.json")
PATIENCE = 3600.0  # seconds that a process waits for the one that joins the shards


def save_ordinary(trainer, folder: str) -> Path:
    """Save a NeuronTrainer's model, or its LoRA adapter, as an ordinary one in `folder`, as PEFT and transformers do.

    Every process must call this. Shards are joined as soon as they are written, so this save is not asynchronous; an
    earlier one is waited for.
    """
    base = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    if base.trn_config.async_save:
        _wait_previous_async_save()
        base.trn_config.async_save = False
    trainer.save_model(folder)
    made, adapter = Path(folder), Path(folder) / ADAPTER
    if xm.is_master_ordinal():
        target = adapter if adapter.is_dir() else made
        consolidate_model_parallel_checkpoints_to_unified_checkpoint(folder, target)
        for shards in (MODEL_PARALLEL_SHARDS_DIR_NAME, ADAPTER_MODEL_PARALLEL_SHARDS_DIR_NAME):
            shutil.rmtree(target / shards, ignore_errors=True)  # one of the two exists
        if target == adapter:
            for path in sorted(adapter.iterdir()):
                os.replace(path, made / path.name)
            adapter.rmdir()
    xm.rendezvous("consolidated")
    return made


def joined(checkpoint: str) -> str:
    """A folder with the ordinary model or adapter of a checkpoint, made beside its shards.

    Every process may call this, and the first one joins the shards. A checkpoint of a Trainer is one already.
    """
    source, target = Path(checkpoint), Path(checkpoint) / "joined"
    adapter = source / ADAPTER
    if not (source / MODEL_PARALLEL_SHARDS_DIR_NAME).is_dir() and not adapter.is_dir():
        return checkpoint

    def join(folder: Path) -> None:
        for path in (place / name for place in (source, adapter) for name in CONFIGS):
            if path.is_file():
                shutil.copy(path, folder)
        consolidate_model_parallel_checkpoints_to_unified_checkpoint(source, folder)

    with Lock(source / ".joining.lock").held(PATIENCE):
        if not target.is_dir():
            make_atomically(target, join)
    return str(target)
