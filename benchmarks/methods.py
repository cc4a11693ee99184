"""What is measured beside each other: our trainer in its layouts, TRL's, Liger-Kernel's loss, and SFT.

Each method is a trainer and its batches; a step is the trainer's own loss, backward and the same AdamW for all.
"""

from dataclasses import dataclass

import torch
from datasets import Dataset

from benchmarks.billion import BILLION, model_and_tokenizer
from helpers.data import as_text, load_preferences, random_pairs, sft_features, tokenize_preferences
from helpers.training import ORPOConfig, ORPOTrainer, find_base_model, load_model, load_tokenizer


@dataclass
class Case:
    """One measurement: a method on `pairs` pairs a step. Lengths in tokens; None takes the built-in domain."""

    method: str
    pairs: int = 8
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    lora_rank: int = 0
    bf16: bool = False  # autocast
    weights: str = "float32"
    model: str = "packaged"
    max_length: int = 192
    batches: int = 4
    seed: int = 0


def make_trainer(case: Case, folder: str):
    """The trainer of a case, its model loaded."""
    model, tokenizer = loaded(case)
    dataset = pairs_of(case, tokenizer)
    lora = {"peft_config": adapter(case)} if case.lora_rank else {}
    common = {"model": model, "processing_class": tokenizer, **lora}
    settings = settings_of(case, folder)
    if case.method == "sft":
        from trl import SFTConfig, SFTTrainer

        features = sft_features(tokenize_preferences(dataset, tokenizer, case.max_length))
        return SFTTrainer(args=SFTConfig(**settings, completion_only_loss=True), train_dataset=features, **common)
    if case.method in ("trl", "liger"):
        from trl import ORPOConfig as TRLConfig
        from trl import ORPOTrainer as TRLTrainer

        make = LigerORPO if case.method == "liger" else TRLTrainer
        arguments = TRLConfig(**settings, beta=1.0, max_prompt_length=case.max_length)
        return make(args=arguments, train_dataset=as_text(dataset, tokenizer), **common)
    layout = "shared" if case.method == "ours" else "rows"
    trainer = ORPOTrainer(args=ORPOConfig(**settings, beta=1.0, layout=layout), train_dataset=dataset, **common)
    trainer.chunked = trainer.chunked and case.method != "textbook"
    if trainer.args.layout != layout:
        raise RuntimeError(f"{case.method}: the layout {layout!r} was refused, so there is nothing to compare")
    return trainer


def loaded(case: Case) -> tuple:
    """The model of a case and its tokenizer."""
    dtype = getattr(torch, case.weights)
    if case.model in BILLION:
        return model_and_tokenizer(case.model, dtype)
    path, _ = find_base_model(case.model)
    return load_model(path, dtype=dtype), load_tokenizer(path)


def settings_of(case: Case, folder: str) -> dict:
    """The arguments that all trainers share."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": case.pairs,
        "max_length": case.max_length,
        "seed": case.seed,
        "bf16": case.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "remove_unused_columns": case.method == "sft",
        "report_to": [],
    }


def adapter(case: Case):
    """The adapter of the laptop profile."""
    from peft import LoraConfig

    return LoraConfig(r=case.lora_rank, lora_alpha=2 * case.lora_rank, target_modules="all-linear")


def pairs_of(case: Case, tokenizer) -> Dataset:
    """The same pairs for every method: from the built-in domain, or of random words with the lengths asked for."""
    count = case.pairs * case.batches
    if case.prompt_tokens is None:
        return load_preferences("aws-api", limit=count, seed=case.seed)
    return random_pairs(tokenizer, count, case.prompt_tokens, case.response_tokens, case.seed)


def LigerORPO(**kwargs):
    """trl.ORPOTrainer with Liger-Kernel's fused loss in place of its own; the NLL covers the response, as in ours."""
    from liger_kernel.chunked_loss import LigerFusedLinearORPOLoss
    from trl import ORPOTrainer as TRLTrainer

    class Trainer(TRLTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            batch = self.concatenated_inputs(inputs, padding_value=self.padding_value, device=self.accelerator.device)
            ids, mask, labels = (batch[f"concatenated_{name}"] for name in ("input_ids", "attention_mask", "labels"))
            hidden = self.model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            fused = LigerFusedLinearORPOLoss(beta=self.beta, compiled=hidden.is_cuda)
            loss, *_ = fused(self.model.get_output_embeddings().weight, hidden[:, :-1], labels[:, 1:])
            return loss

    return Trainer(**kwargs)
