"""ORPO on the Hugging Face Trainer: a config, a loss, and the values worth logging. Short enough to read aloud.

The argument names and the logged values are those of TRL's ORPOTrainer. What differs, and why:

- the loss is the paper's expectation, a mean over pairs, so that splitting a batch by gradient accumulation
  changes nothing (TRL averages over the tokens of each micro-batch);
- the NLL covers the response only unless `nll_on_prompt` is set (TRL and the paper's code include the prompt);
- prompt, chosen and rejected share one row where the model allows it, which computes the prompt once, and log-probs
  come from the hidden states with a block of logits at a time (`helpers.objective.logprobs`). The numbers are the
  same, for less time and memory.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import Trainer, TrainingArguments

from helpers.data.collate import PreferenceCollator
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.chunked_logprobs import chunking_obstacle
from helpers.objective.logprobs import mean_logps, next_token_logits, pair_logps, token_logps
from helpers.objective.odds_ratio import log_odds, orpo_loss
from helpers.training.layout_check import shared_row_obstacle


@dataclass
class ORPOConfig(TrainingArguments):
    """TrainingArguments and what ORPO adds to them."""

    beta: float = field(default=0.1, metadata={"help": "weight of the odds-ratio term; λ in the paper"})
    max_length: int = field(default=1024, metadata={"help": "tokens of prompt + response"})
    max_prompt_length: int | None = field(default=None, metadata={"help": "tokens of the prompt, cut from its left"})
    nll_on_prompt: bool = field(default=False, metadata={"help": "also learn to predict the prompt, as TRL does"})
    layout: str = field(default="shared", metadata={"help": "'shared': one row a pair; 'rows': two, the textbook way"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "the collator reads columns by name"})

    def __post_init__(self):
        super().__post_init__()
        if self.layout not in ("shared", "rows"):
            raise ValueError(f"layout {self.layout!r}: choose 'shared' or 'rows'")
        if self.beta < 0:
            raise ValueError(f"beta is {self.beta}: the weight of the odds-ratio term can't be negative")
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor can't be followed: ORPO's loss has no smoothed labels; leave it out"
            )


class ORPOTrainer(Trainer):
    """Train on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`."""

    def __init__(
        self,
        model,
        args: ORPOConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        processing_class=None,
        peft_config=None,
        **kwargs,
    ):
        for name in ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name} can't be followed: ORPOTrainer computes its own loss and returns no predictions"
                )
        if args.n_gpu > 1:
            raise ValueError(f"{args.n_gpu} GPUs in one process: set CUDA_VISIBLE_DEVICES=0, or start with torchrun")
        if peft_config is not None:
            model = with_adapter(model, peft_config, args)

        def prepare(dataset):
            if dataset is None or "chosen_input_ids" in dataset.column_names:
                return dataset
            return tokenize_preferences(dataset, processing_class, args.max_length, args.max_prompt_length)

        kwargs.setdefault("data_collator", PreferenceCollator(processing_class.pad_token_id, args.layout))
        super().__init__(
            model=model,
            args=args,
            train_dataset=prepare(train_dataset),
            eval_dataset=prepare(eval_dataset),
            processing_class=processing_class,
            **kwargs,
        )
        self.model_accepts_loss_kwargs = False  # so that Trainer divides our mean by the accumulation steps
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        if reason := chunking_obstacle(self.model):
            print(f"ORPO makes all logits: {reason}")
        self.chunked = reason is None
        if args.layout == "shared" and (reason := self._shared_row_obstacle()):
            print(f"ORPO uses two rows a pair: {reason}")
            args.layout = self.data_collator.layout = "rows"
        if args.layout == "rows":
            group_by_length(args)  # rows of like length are padded less; a shared row has no padding

    def _shared_row_obstacle(self) -> str | None:
        if self.args.nll_on_prompt:
            return "nll_on_prompt needs logits on the prompt"
        return shared_row_obstacle(self.model, self.train_dataset, self.args.max_length)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """L_ORPO of one batch, a scalar; stops training by naming the row whose loss is not finite."""
        if self.args.nll_on_prompt:
            chosen_logps, rejected_logps, chosen_nll = logps_and_row_nll(model, inputs)
        else:
            chosen_logps, rejected_logps = pair_logps(model, inputs, self.chunked)
            chosen_nll = -chosen_logps
        refuse_non_finite(inputs["row"], chosen_logps, rejected_logps)
        loss = orpo_loss(chosen_nll, chosen_logps, rejected_logps, self.args.beta)
        metrics = orpo_metrics(chosen_nll.detach(), chosen_logps.detach(), rejected_logps.detach(), self.args.beta)
        for name, value in metrics.items():
            self._metrics["train" if model.training else "eval"][name].append(value.item())
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The same loss on held-out pairs, without gradient. There are no predictions to return."""
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict, *args, **kwargs) -> None:
        """Add the metrics' means since the last log line; at evaluation their names get the prefix `eval_`."""
        mode = "eval" if "eval_loss" in logs else "train"
        prefix = "eval_" if mode == "eval" else ""
        logs.update({f"{prefix}{name}": sum(values) / len(values) for name, values in self._metrics[mode].items()})
        self._metrics[mode].clear()
        super().log(logs, *args, **kwargs)


def group_by_length(args: TrainingArguments) -> None:
    """Draw pairs of like length together, every pair once an epoch; transformers 5 has another name for it than 4."""
    if hasattr(args, "train_sampling_strategy"):
        args.train_sampling_strategy = "group_by_length"
    else:
        args.group_by_length = True


def orpo_metrics(chosen_nll, chosen_logps, rejected_logps, beta: float) -> dict[str, torch.Tensor]:
    """TRL's logged values, each a scalar tensor. `log_odds_ratio` is TRL's name for the mean of log σ(Δ log-odds)."""
    delta = log_odds(chosen_logps) - log_odds(rejected_logps)
    return {
        "rewards/chosen": beta * chosen_logps.mean(),
        "rewards/rejected": beta * rejected_logps.mean(),
        "rewards/accuracies": (chosen_logps > rejected_logps).float().mean(),
        "rewards/margins": beta * (chosen_logps - rejected_logps).mean(),
        "logps/chosen": chosen_logps.mean(),
        "logps/rejected": rejected_logps.mean(),
        "nll_loss": chosen_nll.mean(),
        "log_odds_ratio": torch.nn.functional.logsigmoid(delta).mean(),
        "log_odds_chosen": delta.mean(),
    }


def logps_and_row_nll(model, batch):
    """Mean log-probs of the responses, and the NLL of each whole chosen row, prompt included: three of shape (B,)."""
    logits, labels = next_token_logits(model, batch), batch["labels"][:, 1:]
    chosen_logps, rejected_logps = mean_logps(token_logps(logits, labels), labels).chunk(2)
    every_token = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    pairs = len(chosen_logps)
    row_logps = mean_logps(token_logps(logits[:pairs], every_token[:pairs]), every_token[:pairs])
    return chosen_logps, rejected_logps, -row_logps


def refuse_non_finite(rows: torch.Tensor, chosen_logps: torch.Tensor, rejected_logps: torch.Tensor) -> None:
    """Raise a FloatingPointError that names the rows whose log-prob is NaN or infinite."""
    bad = ~(torch.isfinite(chosen_logps) & torch.isfinite(rejected_logps))
    if bad.any():
        raise FloatingPointError(
            f"the log-prob of training row {rows[bad].tolist()} is not finite: look at that row with "
            "train_dataset[row]; if it reads well, lower the learning rate or use float32"
        )


def with_adapter(model, peft_config, args: TrainingArguments):
    """The model with a LoRA (or other PEFT) adapter, ready for gradient checkpointing if `args` asks for it."""
    if args.gradient_checkpointing:
        model.enable_input_require_grads()  # the frozen embedding would end the gradient's path
    return get_peft_model(model, peft_config)
