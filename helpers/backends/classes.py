"""What a backend imports: its trainers and configs, how it loads a model and saves one. Nothing is imported unasked."""

import tempfile
from pathlib import Path

import torch


def torch_classes(method: str) -> tuple[type, type]:
    """(trainer, config) of plain PyTorch."""
    if method == "sft":
        from trl import SFTConfig

        from helpers.training.sft import SFTTrainer

        return SFTTrainer, SFTConfig
    if method == "dpo":
        from helpers.training.dpo import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    from helpers.training.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer, ORPOConfig


def neuron_classes(method: str) -> tuple[type, type]:
    """(trainer, config) of Optimum Neuron."""
    if method == "sft":
        from helpers.neuron import NeuronSFTConfig, NeuronSFTTrainer

        return NeuronSFTTrainer, NeuronSFTConfig
    if method == "dpo":
        from helpers.neuron import NeuronDPOConfig, NeuronDPOTrainer

        return NeuronDPOTrainer, NeuronDPOConfig
    from helpers.neuron import NeuronORPOConfig, NeuronORPOTrainer

    return NeuronORPOTrainer, NeuronORPOConfig


def load_torch_model(path: str, args, checkpoint: str | None = None):
    """An ordinary model. Its weights are float32: `args.bf16` is autocast here, which rounds products, not updates."""
    from peft import PeftModel

    from helpers.training.base_model import is_adapter, load_model

    if checkpoint is None or not is_adapter(checkpoint):
        return load_model(checkpoint or path)
    return PeftModel.from_pretrained(load_model(path), checkpoint, is_trainable=True)


def load_neuron_model(path: str, args, checkpoint: str | None = None):
    """Optimum Neuron's training model, split over cores as `args.trn_config` says."""
    from optimum.neuron.models.training import NeuronModelForCausalLM

    from helpers.neuron.refusals import refuse_model
    from helpers.training.base_model import MADE, is_adapter, load_config, load_model

    if checkpoint is not None:
        from optimum.neuron.peft import NeuronPeftModel

        from helpers.neuron.checkpoint import joined

        whole = joined(checkpoint)
        if not is_adapter(whole):
            return load_neuron_model(whole, args)
        return NeuronPeftModel.from_pretrained(load_neuron_model(path, args), whole, is_trainable=True)
    refuse_model(load_config(path), args.trn_config.tensor_parallel_size)
    with tempfile.TemporaryDirectory() as folder:
        if path in MADE:  # made on the spot, and Optimum Neuron reads only folders
            load_model(path).save_pretrained(folder)
            path = folder
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        return NeuronModelForCausalLM.from_pretrained(path, args.trn_config, dtype=dtype)


def save_torch_model(trainer, folder: str) -> Path:
    """What the trainer saves is ordinary already."""
    trainer.save_model(folder)
    return Path(folder)


def save_neuron_model(trainer, folder: str) -> Path:
    """Optimum Neuron saves shards, which are joined."""
    from helpers.neuron.checkpoint import save_ordinary

    return save_ordinary(trainer, folder)
