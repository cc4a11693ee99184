"""DPO on the Hugging Face Trainer: `helpers.objective.dpo` on the base that ORPO's trainer has.

The reference is the model as it is given. Its log-probs are computed once, when the trainer is made, so that no second
model is kept. The argument names and the logged values are those of TRL's DPOTrainer with its default loss; its other
losses are its own.
"""

from dataclasses import dataclass, field

import torch

from helpers.data.schema import REFERENCE
from helpers.objective.dpo import dpo_losses, dpo_values
from helpers.objective.logprobs import summed_pair_logps
from helpers.training.config import PreferenceConfig, is_weight
from helpers.training.dpo_reference import refuse_other_reference, with_reference_logps
from helpers.training.orpo import refuse_non_finite
from helpers.training.preference import PreferenceTrainer

# Arguments of TRL's DPOConfig that ask for another loss or another reference: the value that asks for nothing
PLAIN = {"loss_type": "sigmoid", "label_smoothing": 0.0, "reference_free": False, "sync_ref_model": False}


@dataclass
class DPOConfig(PreferenceConfig):
    """TrainingArguments, what pairs add to them, and what DPO adds, under TRL's names."""

    beta: float = field(default=0.1, metadata={"help": "how dear it is to move away from the reference"})
    loss_type: str = field(default="sigmoid", metadata={"help": "'sigmoid', as in the paper; else refused"})
    label_smoothing: float = field(default=0.0, metadata={"help": "0; else refused"})
    reference_free: bool = field(default=False, metadata={"help": "refused"})
    sync_ref_model: bool = field(default=False, metadata={"help": "refused"})
    precompute_ref_log_probs: bool = field(default=True, metadata={"help": "always so; False is refused"})

    def __post_init__(self):
        for name, value in PLAIN.items():
            if getattr(self, name) not in (value, [value]):
                raise ValueError(f"{name} can't be followed: this is the paper's DPO; take trl.DPOTrainer for others")
        if not self.precompute_ref_log_probs:
            raise ValueError("precompute_ref_log_probs=False can't be followed: no second model is kept; leave it out")
        super().__post_init__()
        if not is_weight(self.beta) or not self.beta:
            raise ValueError(f"beta is {self.beta!r}: DPO's must be positive, or there is nothing to learn")


class DPOTrainer(PreferenceTrainer):
    """Train with DPO on preference pairs, or on the output of `tokenize_preferences`.

    Pairs may have `ref_chosen_logps` and `ref_rejected_logps` (sums, nats; `with_reference_logps`), which must be this
    model's; without them they are computed here, before the first step.
    """

    _tag_names = ("trl", "dpo")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.train_dataset is not None:
            self.train_dataset = self._with_reference(self.train_dataset)
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {name: self._with_reference(part) for name, part in self.eval_dataset.items()}
        elif self.eval_dataset is not None:
            self.eval_dataset = self._with_reference(self.eval_dataset)

    def pair_losses(self, model, inputs):
        """L_DPO of each pair; stops training by naming the row whose loss is not finite."""
        logps, reference = summed_pair_logps(model, inputs, self.chunked), [inputs[name] for name in REFERENCE]
        refuse_non_finite(inputs["row"], *logps, "training" if model.training else "evaluation")
        values = dpo_values(*(each.detach() for each in logps), *reference, self.args.beta)
        return dpo_losses(*logps, *reference, self.args.beta), values

    def value_names(self):
        return list(dpo_values(*torch.zeros(4, 1), beta=1.0))

    def _with_reference(self, tokenized):
        """The pairs with the log-probs of the model, which is the reference still."""
        if set(REFERENCE) <= set(tokenized.column_names):
            refuse_other_reference(tokenized, self.model, self.pad_token_id)
            return tokenized
        size = self.args.per_device_eval_batch_size
        with self.accelerator.autocast():
            return with_reference_logps(tokenized, self.model, self.pad_token_id, size)

    def _prepared(self, dataset):
        prepared = super()._prepared(dataset)
        if not set(REFERENCE) <= set(getattr(prepared, "column_names", REFERENCE)):
            if self.state.global_step:
                raise ValueError(
                    "eval_dataset has no reference log-probs, and the model is no longer the reference: give it to "
                    "the constructor, or make it with with_reference_logps before training"
                )
            return self._with_reference(prepared)
        return prepared
