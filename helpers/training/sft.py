"""TRL's SFTTrainer with the numbers of one process, however many there are, and of a whole run, where it was resumed.

TRL's own counts the rows that fill up an epoch's last batch, and its entropy is a mean of the processes' means.
"""

import torch
from trl import SFTTrainer
from trl.trainer.utils import entropy_from_logits

from helpers.objective.labels import IGNORE
from helpers.training.config import refuse_launchers_fsdp
from helpers.training.draws import (
    draws_at_random,
    epoch_order,
    first_draws,
    refuse_other_ways_of_drawing,
    refuse_too_few,
)


class EvenSFTTrainer(SFTTrainer):
    """Train on the output of `helpers.data.sft_features`, or on whatever TRL's SFTTrainer takes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        refuse_launchers_fsdp()  # which SFTConfig sets, too
        refuse_other_ways_of_drawing(self.args)
        refuse_too_few(self)
        if self.args.world_size > 1 and self.padding_free:
            raise ValueError("padding_free (or packing) can't be followed with several processes: leave it out")

    def _get_train_sampler(self, *args):
        return epoch_order(self) if draws_at_random(self.args) else super()._get_train_sampler(*args)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of an update without rows that were drawn before, and the number of labels in them."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.world_size == 1 or not batches:
            return batches, items
        rows = len(batches[-1]["labels"])
        new = first_draws(self, rows)
        if new < rows:
            batches[-1] = {name: value[: max(new, 1)] for name, value in batches[-1].items()}
        if not new:  # every process needs a row; this one teaches nothing
            batches[-1]["labels"] = torch.full_like(batches[-1]["labels"], IGNORE)
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's loss; what it logs of a micro-batch is a mean over the tokens of all processes."""
        before = self._total_train_tokens
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.args.world_size > 1 and model.training:
            with torch.no_grad():
                mask = inputs["attention_mask"] * (inputs["labels"] != IGNORE).any()
                sums = torch.stack([(entropy_from_logits(outputs.logits) * mask).sum(), mask.sum().float()])
                entropies, tokens = self.accelerator.reduce(sums, "sum").tolist()
            self._total_train_tokens = before + tokens
            self._metrics["train"]["entropy"][-1] = entropies / tokens
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss
