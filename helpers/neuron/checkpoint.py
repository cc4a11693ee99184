"""From Optimum Neuron's sharded checkpoint to the ordinary model or adapter that transformers and PEFT load."""

import shutil
from pathlib import Path

import torch_xla.core.xla_model as xm
from optimum.neuron.models.training import consolidate_model_parallel_checkpoints_to_unified_checkpoint
from optimum.neuron.models.training.modeling_utils import MODEL_PARALLEL_SHARDS_DIR_NAME, _wait_previous_async_save
from optimum.neuron.peft.peft_model import ADAPTER_MODEL_PARALLEL_SHARDS_DIR_NAME


def save_ordinary(trainer, folder: str) -> Path:
    """Save a NeuronTrainer's model as one; returns the folder to load it from.

    Every process must call this. A LoRA adapter ends up in <folder>/adapter_default, where its config already is.
    Shards are joined as soon as they are written, so this save is not asynchronous; an earlier one is waited for.
    """
    base = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    if base.trn_config.async_save:
        _wait_previous_async_save()
        base.trn_config.async_save = False
    trainer.save_model(folder)
    adapter = Path(folder) / "adapter_default"
    target = adapter if adapter.is_dir() else Path(folder)
    if xm.is_master_ordinal():
        consolidate_model_parallel_checkpoints_to_unified_checkpoint(folder, target)
        for shards in (MODEL_PARALLEL_SHARDS_DIR_NAME, ADAPTER_MODEL_PARALLEL_SHARDS_DIR_NAME):
            shutil.rmtree(target / shards, ignore_errors=True)  # one of the two exists
    xm.rendezvous("consolidated")
    return target
