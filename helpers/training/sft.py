"""TRL's SFTTrainer with the numbers of one process, however many there are, and of a whole run, where it was resumed.

TRL's own counts the rows that fill up an epoch's last batch, and its entropy is a mean of the processes' means. It also
makes the logits of every token, prompts included, of which the loss needs only the labelled ones: here they are made
for those alone, in blocks, as for ORPO (`helpers.objective.chunked_logprobs`). The loss and its gradients are the same.
"""

import torch
from trl import SFTTrainer as TRLsTrainer
from trl.trainer.utils import entropy_from_logits

from helpers.objective.chunked_logprobs import chunked_logps, chunking_obstacle, output_head, predictions
from helpers.objective.labels import IGNORE
from helpers.objective.logprobs import row_inputs
from helpers.training.config import refuse_launchers_fsdp
from helpers.training.draws import (
    draws_at_random,
    epoch_order,
    first_draws,
    first_evaluated,
    refuse_other_ways_of_drawing,
    refuse_too_few,
)

TEXT = {"input_ids", "attention_mask", "labels"}  # a batch with more, such as token types or images, is left to TRL


class SFTTrainer(TRLsTrainer):
    """Train on the output of `helpers.data.sft_features`, or on whatever TRL's SFTTrainer takes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        refuse_launchers_fsdp()  # which SFTConfig sets, too
        refuse_other_ways_of_drawing(self.args)
        refuse_too_few(self)
        if self.args.world_size > 1 and self.padding_free:
            raise ValueError("padding_free (or packing) can't be followed with several processes: leave it out")
        self.chunked = self._plain() and chunking_obstacle(self.model) is None

    def _plain(self) -> bool:
        """True if the loss is the mean of the labelled tokens' negative log-probs, and TRL would make all logits.

        A newer TRL, which has no `num_virtual_tokens`, leaves them out itself.
        """
        args = self.args
        if not hasattr(self, "num_virtual_tokens") or args.loss_type != "nll" or not self.model_accepts_loss_kwargs:
            return False
        other = [self.padding_free, args.label_smoothing_factor, args.use_liger_kernel, args.n_gpu > 1]
        other += [self.compute_loss_func, self.aux_loss_enabled, self.num_virtual_tokens]
        return not any([*other, self.is_deepspeed_enabled, self.is_fsdp_enabled])

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
        """TRL's loss; what is logged of a micro-batch is a mean over the tokens of all processes."""
        if self.chunked and model.training and not return_outputs and inputs.keys() == TEXT:
            return self._loss_of_labels(model, inputs, num_items_in_batch)
        if self.args.world_size == 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not model.training:
            loss, outputs = self._evaluated(model, inputs)
            return (loss, outputs) if return_outputs else loss
        before = self._total_train_tokens
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        mask = inputs["attention_mask"] * (inputs["labels"] != IGNORE).any()
        self._total_train_tokens = before + self._note_entropy(outputs, mask, "train")
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss

    def _evaluated(self, model, inputs):
        """(the mean loss of the labelled tokens of all processes, the outputs), without rows that came twice."""
        labels, new = inputs["labels"], first_evaluated(self, len(inputs["labels"]))
        labels = labels.index_fill(0, torch.arange(new, len(labels), device=labels.device), IGNORE)
        loss, outputs = super().compute_loss(model, inputs | {"labels": labels}, True)  # of this process's labels
        labelled = (labels[:, 1:] != IGNORE).sum()
        total = torch.where(labelled > 0, loss.detach().float() * labelled, 0.0)
        total, labelled = self.accelerator.reduce(torch.stack([total, labelled.float()]), "sum")
        mask = inputs["attention_mask"].clone()
        mask[new:] = 0
        self._note_entropy(outputs, mask, "eval")
        return total / labelled, outputs

    def _note_entropy(self, outputs, mask: torch.Tensor, part: str) -> int:
        """Correct TRL's last entropy of "train" or "eval"; returns the number of tokens over all processes."""
        with torch.no_grad():
            entropies = entropy_from_logits(outputs.logits) * mask
            sums = torch.stack([entropies.sum().float(), mask.sum().float()])
        entropy, tokens = self.accelerator.reduce(sums, "sum").tolist()
        self._metrics[part]["entropy"][-1] = entropy / tokens
        return int(tokens)

    def _loss_of_labels(self, model, inputs, items) -> torch.Tensor:
        """The loss from the logits of labelled tokens alone; `entropy` and `mean_token_accuracy` are logged of them."""
        labels = inputs["labels"][:, 1:]  # position t predicts token t + 1
        scored, read = labels != IGNORE, []

        def select(hidden):
            read.append(hidden[:, :-1][scored])
            return read[0]

        logps = chunked_logps(model, row_inputs(inputs), select, labels[scored])
        self._note(inputs, predictions(read[0], output_head(model).weight, labels[scored]))
        if items is None:
            return -logps.mean()
        # DDP divides gradients by the number of processes
        return -logps.sum() * (self.args.world_size if self.args.average_tokens_across_devices else 1) / items

    def _note(self, inputs, found: torch.Tensor) -> None:
        """Keep what TRL logs of a micro-batch, over the tokens of all processes. `found`: see `predictions`."""
        tokens = inputs["attention_mask"].sum() * (inputs["labels"] != IGNORE).any()
        sums = torch.cat([found, tokens[None].to(found)])
        entropies, hits, labelled, tokens = self.accelerator.reduce(sums, "sum").tolist()
        self._total_train_tokens += tokens
        logged = self._metrics["train"]
        logged["num_tokens"] = [self._total_train_tokens]
        logged["entropy"].append(entropies / max(labelled, 1))
        logged["mean_token_accuracy"].append(hits / max(labelled, 1))
