"""ORPO on the Hugging Face Trainer: a config, a loss, and the values worth logging. Short enough to read aloud.

The argument names and the logged values are those of TRL's ORPOTrainer. What differs, and why:

- the loss is the paper's expectation, a mean over pairs, so that splitting a batch by gradient accumulation
  changes nothing (TRL averages over the tokens of each micro-batch);
- the NLL covers the response only unless `nll_on_prompt` is set (TRL and the paper's code include the prompt);
- prompt, chosen and rejected share one row where the model allows it, which computes the prompt once, and log-probs
  come from the hidden states with a block of logits at a time (`helpers.objective.logprobs`). The numbers are the
  same, for less time and memory;
- rows are tokenised as `helpers.data` says, and memory is spared only if you ask: bf16 and gradient checkpointing are
  off and prompts have no limit of their own (TRL: on, on, 512 tokens). The trainer prints a line where that differs.

What any trainer of pairs needs beside its loss is in `helpers.training.preference`, its arguments in `config`.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from helpers.objective.logprobs import mean_logps, next_token_logits, pair_logps, token_logps
from helpers.objective.odds_ratio import log_odds, odds_ratio_loss
from helpers.training.config import PreferenceConfig, is_weight
from helpers.training.preference import PreferenceTrainer


@dataclass
class ORPOConfig(PreferenceConfig):
    """TrainingArguments, what pairs add to them, and what ORPO adds, under TRL's names."""

    beta: float = field(default=0.1, metadata={"help": "weight of the odds-ratio term; λ in the paper"})
    nll_on_prompt: bool = field(default=False, metadata={"help": "also learn to predict the prompt, as TRL does"})

    def __post_init__(self):
        super().__post_init__()
        if not is_weight(self.beta):
            raise ValueError(f"beta is {self.beta!r}: the weight of the odds-ratio term is a number, 0 or more")


class ORPOTrainer(PreferenceTrainer):
    """Train on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`."""

    _tag_names = ("trl", "orpo")

    def pair_losses(self, model, inputs):
        """L_ORPO of each pair; stops training by naming the row whose loss is not finite."""
        if self.args.nll_on_prompt:
            chosen_logps, rejected_logps, chosen_nll = logps_and_row_nll(model, inputs)
        else:
            chosen_logps, rejected_logps = pair_logps(model, inputs, self.chunked)
            chosen_nll = -chosen_logps
        refuse_non_finite(inputs["row"], chosen_logps, rejected_logps, "training" if model.training else "evaluation")
        losses = chosen_nll + self.args.beta * odds_ratio_loss(chosen_logps, rejected_logps)
        return losses, orpo_values(chosen_nll.detach(), chosen_logps.detach(), rejected_logps.detach(), self.args.beta)

    def value_names(self):
        return list(orpo_values(*torch.zeros(3, 1), beta=1.0))

    def _shared_row_obstacle(self) -> str | None:
        if self.args.nll_on_prompt:
            return "nll_on_prompt needs logits on the prompt"
        return super()._shared_row_obstacle()


def orpo_metrics(chosen_nll, chosen_logps, rejected_logps, beta: float) -> dict[str, torch.Tensor]:
    """The means of `orpo_values`, each a scalar tensor."""
    return {name: value.mean() for name, value in orpo_values(chosen_nll, chosen_logps, rejected_logps, beta).items()}


def orpo_values(chosen_nll, chosen_logps, rejected_logps, beta: float) -> dict[str, torch.Tensor]:
    """What TRL logs, for each pair, under TRL's names: (pairs,)."""
    delta = log_odds(chosen_logps) - log_odds(rejected_logps)
    return {
        "rewards/chosen": beta * chosen_logps,
        "rewards/rejected": beta * rejected_logps,
        "rewards/accuracies": (chosen_logps > rejected_logps).float(),
        "rewards/margins": beta * (chosen_logps - rejected_logps),
        "logps/chosen": chosen_logps,
        "logps/rejected": rejected_logps,
        "nll_loss": chosen_nll,
        "log_odds_ratio": F.logsigmoid(delta),  # TRL's name; what this project calls log_odds_difference …
        "log_odds_chosen": delta,  # … is this one of TRL's
    }


def logps_and_row_nll(model, batch):
    """Mean log-probs of the responses, and the NLL of each whole chosen row, prompt included: three of shape (B,)."""
    logits, labels = next_token_logits(model, batch), batch["labels"][:, 1:]
    chosen_logps, rejected_logps = mean_logps(token_logps(logits, labels), labels).chunk(2)
    every_token = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    pairs = len(chosen_logps)
    row_logps = mean_logps(token_logps(logits[:pairs], every_token[:pairs]), every_token[:pairs])
    return chosen_logps, rejected_logps, -row_logps


def refuse_non_finite(rows, chosen_logps: torch.Tensor, rejected_logps: torch.Tensor, part: str = "training") -> None:
    """Raise a FloatingPointError that names the rows whose log-prob is NaN or infinite."""
    bad = ~(torch.isfinite(chosen_logps) & torch.isfinite(rejected_logps))
    if bad.any():
        raise FloatingPointError(
            f"the log-prob of {part} row {rows[bad].tolist()} is not finite: look at that row of the "
            f"data set; if it reads well, lower the learning rate or use float32"
        )
