"""Tiny Llama, Qwen3 and Granite models with the real tokenizer, and the two trainers on them."""

from datasets import Dataset
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

from helpers.data.load import load_preferences
from helpers.data.schema import REFERENCE
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.dpo import dpo_loss, dpo_metrics
from helpers.objective.logprobs import pair_logps
from helpers.training.base_model import SMOKE, load_tokenizer
from helpers.training.orpo import ORPOConfig, ORPOTrainer

LENGTH = 96
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,  # larger than usual: log-probs that differ make a sharper comparison
}
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "granite": (GraniteConfig, GraniteForCausalLM),
}


def save_tiny_model(folder, architecture: str, tied: bool = True, vocabulary: int | None = None) -> str:
    """Write a model of random weights and its tokenizer; returns the path."""
    tokenizer = load_tokenizer(SMOKE)
    config_class, model_class = ARCHITECTURES[architecture]
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    set_seed(0)
    model = model_class(config_class(vocab_size=vocabulary or len(tokenizer), tie_word_embeddings=tied, **SIZES, **ids))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def real_pairs(count: int, tokenizer, length: int = LENGTH) -> Dataset:
    """Tokenised pairs of the built-in domain."""
    return tokenize_preferences(load_preferences("aws-api", limit=count), tokenizer, length)


COMMON = {
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "max_grad_norm": 1.0,
    "optim": "adamw_torch",
    "beta": 0.7,
    "max_length": LENGTH,
}


def torch_trainer(path: str, pairs: Dataset, output, model=None, method="orpo", **settings) -> ORPOTrainer:
    """helpers.training.orpo.ORPOTrainer in plain PyTorch, float32, in two rows a pair; or the same with DPO's loss."""
    from helpers.training.base_model import load_model

    args = ORPOConfig(output_dir=str(output), **COMMON | {"use_cpu": True, "bf16": False, "layout": "rows"} | settings)
    return {"orpo": InOrder, "dpo": DPOInOrder}[method](
        model=model or load_model(path), args=args, train_dataset=pairs, processing_class=load_tokenizer(SMOKE)
    )


class InOrder(ORPOTrainer):
    """Takes the pairs in their order, so that two libraries' shuffles can't differ."""

    def _get_train_sampler(self, *args, **kwargs):
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self.train_dataset)


class DPOInOrder(InOrder):
    """DPO as a textbook has it, on pairs with reference log-probs."""

    def pair_losses(self, model, inputs):
        import torch

        tokens = (inputs["labels"] != -100).sum(dim=1).chunk(2)
        logps = [mean * count for mean, count in zip(pair_logps(model, inputs), tokens, strict=True)]
        reference = [inputs[name] for name in REFERENCE]
        each = [[value[i : i + 1] for value in (*logps, *reference)] for i in range(len(tokens[0]))]
        losses = torch.stack([dpo_loss(*pair, self.args.beta) for pair in each])
        metrics = [dpo_metrics(*(value.detach() for value in pair), self.args.beta) for pair in each]
        return losses, {name: torch.stack([pair[name] for pair in metrics]) for name in metrics[0]}


def neuron_dpo_trainer(path: str, pairs: Dataset, output, **settings):
    """helpers.neuron.NeuronDPOTrainer, likewise."""
    return neuron_trainer(path, pairs, output, method="dpo", **{"beta": 0.1} | settings)


def neuron_trainer(
    path: str, pairs: Dataset, output, dtype="float32", callbacks=None, peft_config=None, method="orpo", **settings
):
    """helpers.neuron.NeuronORPOTrainer on XLA's CPU device, taking the pairs in their order; or that of DPO or SFT."""
    import torch
    from optimum.neuron.models.training import NeuronModelForCausalLM
    from torch.utils.data import SequentialSampler

    from helpers.backends import neuron_classes
    from helpers.data.trl_format import sft_features

    trainer_class, config_class = neuron_classes(method)

    class NeuronInOrder(trainer_class):
        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(self.train_dataset)

    settings = COMMON | {"bf16": dtype == "bfloat16"} | settings
    if method == "sft":
        settings = {name: value for name, value in settings.items() if name not in ("beta", "layout")}
        settings |= {"completion_only_loss": True}  # as scripts/train.py has it
        pairs = sft_features(pairs)
    args = config_class(output_dir=str(output), **settings)
    model = NeuronModelForCausalLM.from_pretrained(path, args.trn_config, dtype=getattr(torch, dtype))
    return NeuronInOrder(
        model=model,
        args=args,
        train_dataset=pairs,
        processing_class=load_tokenizer(SMOKE),
        callbacks=callbacks,
        peft_config=peft_config,
    )


def neuron_sft_trainer(path: str, pairs: Dataset, output, callbacks=None, **settings):
    """Optimum Neuron's own NeuronSFTTrainer on the chosen answers, padded to one length."""
    import torch
    from optimum.neuron import NeuronSFTConfig, NeuronSFTTrainer
    from optimum.neuron.models.training import NeuronModelForCausalLM

    from helpers.data.trl_format import sft_features

    settings = {name: value for name, value in COMMON.items() if name != "beta"} | {"bf16": False} | settings
    args = NeuronSFTConfig(output_dir=str(output), skip_cache_push=True, dataloader_drop_last=True, **settings)
    model = NeuronModelForCausalLM.from_pretrained(path, args.trn_config, dtype=torch.float32)
    tokenizer = load_tokenizer(SMOKE)
    return NeuronSFTTrainer(
        model=model, args=args, train_dataset=sft_features(pairs), processing_class=tokenizer, callbacks=callbacks
    )


def trl_metrics(path: str, row: dict, output) -> dict[str, float]:
    """What trl.ORPOTrainer computes for one tokenised pair, its `loss` included."""
    import torch
    from trl import ORPOConfig as TRLConfig
    from trl import ORPOTrainer as TRLTrainer

    from helpers.training.base_model import load_model

    with torch.no_grad():
        trainer = object.__new__(TRLTrainer)  # its __init__ would start a second accelerator beside the XLA one
        trainer.args = TRLConfig(output_dir=str(output), use_cpu=True, bf16=False, report_to=[])
        trainer.beta, trainer.aux_loss_enabled, trainer.is_encoder_decoder = COMMON["beta"], False, False
        trainer.label_pad_token_id, trainer.padding_value = -100, load_tokenizer(SMOKE).pad_token_id
        trainer.accelerator = SingleDevice()
        loss, metrics = trainer.get_batch_loss_metrics(load_model(path), trl_batch(row), train_eval="train")
    return {name: float(value) for name, value in (metrics | {"loss": loss}).items()}


class SingleDevice:
    """The two things of an accelerator that trl's loss asks for."""

    device = "cpu"

    def gather_for_metrics(self, value):
        return value


def trl_batch(row: dict) -> dict:
    """The batch that trl.ORPOTrainer makes of one tokenised pair."""
    import torch

    batch = {}
    for side in ("chosen", "rejected"):
        ids = torch.tensor([row[f"{side}_input_ids"]])
        labels = torch.tensor([row[f"{side}_labels"]])
        parts = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        batch |= {f"{side}_{name}": value for name, value in parts.items()}
    return batch
