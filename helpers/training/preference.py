"""What every trainer of preference pairs needs beside its loss: inputs, a fair mean, metrics over all processes.

`PreferenceTrainer` prepares model and data (`helpers.training.arguments`), weighs pairs so that a batch may be split
over micro-batches and processes, and averages the logged values over pairs. A subclass adds `pair_losses`.
"""

import copy
from dataclasses import replace

import torch
from transformers import Trainer

from helpers.data.collate import PreferenceCollator
from helpers.objective.chunked_logprobs import chunking_obstacle
from helpers.training.arguments import (
    prepare_pairs,
    refuse_padding,
    refuse_unfollowed,
    refuse_unreadable_batches,
    refuse_unreadable_rows,
    tokenizer_of,
)
from helpers.training.autocast import adapters_cast_once
from helpers.training.config import differences
from helpers.training.draws import epoch_order, first_draws, refuse_too_few, way_of_drawing
from helpers.training.layout_check import shared_row_obstacle
from helpers.training.policy import model_maker, refuse_failing


class PreferenceTrainer(Trainer):
    """Trainer on preference pairs, or on the output of `tokenize_preferences`.

    A subclass gives `pair_losses(model, inputs)` → (losses, {name: values}), each of shape (pairs,).
    """

    _tag_names = ("trl",)  # TRL's own tags, by which people find such models

    def __init__(
        self,
        model=None,
        args=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        peft_config=None,
        data_collator=None,
        **kwargs,
    ):
        args = copy.copy(refuse_unfollowed(args, kwargs, type(self).__name__))  # what is changed here stays here
        tokenizer = tokenizer_of(model, processing_class or kwargs.pop("tokenizer", None), args)
        kwargs.pop("tokenizer", None)
        model, kwargs["model_init"] = model_maker(model, kwargs.get("model_init"), args, peft_config, self._tag_names)
        self.pad_token_id = tokenizer.pad_token_id if args.padding_value is None else args.padding_value
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or PreferenceCollator(self.pad_token_id, args.layout),
            train_dataset=prepare_pairs(train_dataset, tokenizer, args, "train_dataset"),
            eval_dataset=prepare_pairs(eval_dataset, tokenizer, args, "eval_dataset"),
            processing_class=tokenizer,
            **kwargs,
        )
        self.model_accepts_loss_kwargs = True  # the loss is divided here, by pairs, and not by Trainer
        self._sums, self._evaluated = {}, []
        refuse_failing(self.model, args)
        refuse_padding(self.model, self.pad_token_id)
        for name, dataset in self._named_datasets():
            refuse_unreadable_rows(self.model, dataset, name)
            if data_collator:
                refuse_unreadable_batches(data_collator, dataset)
        refuse_too_few(self)
        refuse_unknown_metric(self)
        self._choose_the_fastest_way()
        if (differs := differences(args)) and self.is_world_process_zero():
            print(f"Unlike TRL's defaults (in brackets): {differs}")

    def _named_datasets(self):
        """(name, data set) of the training and of each evaluation data set that is there."""
        evaluation = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"eval_dataset": self.eval_dataset}
        named = [("train_dataset", self.train_dataset), *evaluation.items()]
        return [(name, dataset) for name, dataset in named if dataset is not None]

    def _choose_the_fastest_way(self) -> None:
        """Leave out logits and share rows where that is right for the model; say so where it is not."""
        args, method = self.args, type(self).__name__.removesuffix("Trainer")
        if reason := chunking_obstacle(self.model):
            print(f"{method} makes all logits: {reason}")
        self.chunked = reason is None
        args.layout = getattr(self.data_collator, "layout", "rows")  # a collator that was given has its own way
        if args.layout == "shared" and (reason := self._shared_row_obstacle()):
            print(f"{method} uses two rows a pair: {reason}")
            args.layout = "rows"
            self.data_collator = replace(self.data_collator, layout=args.layout)
        if args.layout == "shared":
            # One forward a row, and processes may have unlike numbers of rows: none may wait for another in a forward
            if args.ddp_broadcast_buffers:
                raise ValueError("ddp_broadcast_buffers can't be followed with shared rows: leave it out")
            args.ddp_broadcast_buffers = False

    def _shared_row_obstacle(self) -> str | None:
        datasets = [dataset for _, dataset in self._named_datasets()]
        return shared_row_obstacle(self.model, datasets, self.args.max_length) if datasets else None

    def _inner_training_loop(self, *args, **kwargs):
        """Trainer's loop, which begins anew where `auto_find_batch_size` tries a smaller batch."""
        self._sums = {}
        return super()._inner_training_loop(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        """Trainer's step; the adapter's inputs are cast once, in the forward pass and where it is computed again."""
        with adapters_cast_once(self):
            return super().training_step(*args, **kwargs)

    def _get_train_sampler(self, *args):
        """Pairs at random; in two rows a pair with those of like length, which are padded less."""
        way = way_of_drawing(self.args)
        if way not in ("random", "group_by_length"):
            return super()._get_train_sampler(*args)
        return epoch_order(self, grouped=way == "group_by_length" or self.args.layout == "rows")

    # ── the mean over pairs ─────────────────────────────────────────────────────────────────────────────────

    def pair_losses(self, model, inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of each pair (pairs,), with its gradient, and the values to log, each (pairs,), without."""
        raise NotImplementedError

    def value_names(self) -> list[str]:
        """The names of these values."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of an update, each with a weight per pair, and the number of pairs over all processes.

        accelerate fills up the last batch of an epoch with pairs that were there already: their weight is 0.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            batch["pair_weights"] = torch.ones(len(batch["row"]), device=batch["row"].device)
        if batches:
            batches[-1]["pair_weights"][first_draws(self, len(batches[-1]["row"])) :] = 0
        pairs = torch.tensor(float(sum(batch["pair_weights"].sum() for batch in batches)), device=device)
        return batches, self.accelerator.reduce(pairs, "sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean loss of the pairs, a scalar; in an update, this micro-batch's part of the mean over its pairs."""
        losses, values = self.pair_losses(model, inputs)
        weights = inputs.get("pair_weights", torch.ones_like(losses))
        if num_items_in_batch is None:
            loss = losses.mean()
        else:  # DDP divides the gradients by the number of processes
            loss = (losses * weights).sum() * self.args.world_size / num_items_in_batch
        if model.training:
            self._add_up(values, weights)
        else:
            self._evaluated.append(self._gathered({"loss": losses.detach()} | values))
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The same loss on held-out pairs, without gradient. There are no predictions to return."""
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    # ── values to log ───────────────────────────────────────────────────────────────────────────────────────

    def _add_up(self, values: dict[str, torch.Tensor], weights: torch.Tensor) -> None:
        for name, value in ({"pairs": torch.ones_like(weights)} | values).items():
            self._sums[name] = self._sums.get(name, 0) + (value.float() * weights).sum()

    def _gathered(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The values of all processes, without those of pairs that accelerate has put in twice."""
        table = torch.stack([value.float() for value in values.values()], dim=1)
        columns = self.accelerator.gather_for_metrics(table).cpu().double().unbind(dim=1)
        return dict(zip(values, columns, strict=True))

    def log(self, logs: dict, *args, **kwargs) -> None:
        """Add to a training line the means over all processes' pairs since the last one."""
        if "loss" in logs and self._sums:
            sums = self.accelerator.reduce(torch.stack(list(self._sums.values())), "sum").tolist()
            means = dict(zip(self._sums, sums, strict=True))
            pairs = means.pop("pairs")
            logs.update({name: total / pairs for name, total in means.items()})
            self._sums = {}
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """Trainer's loop, with the loss and the logged values as means over pairs, under the prefix."""
        self._evaluated = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        for name in self._evaluated[0] if self._evaluated else ():
            every_pair = torch.cat([values[name] for values in self._evaluated])
            output.metrics[f"{metric_key_prefix}_{name}"] = every_pair.mean().item()
        self._evaluated = []
        return output

    # ── data that comes later ───────────────────────────────────────────────────────────────────────────────

    def get_eval_dataloader(self, eval_dataset=None):
        """For pairs as they are, tokenised pairs, or the name of one of the evaluation data sets."""
        return super().get_eval_dataloader(self._prepared(eval_dataset))

    def get_test_dataloader(self, test_dataset):
        """The same for `predict`."""
        return super().get_test_dataloader(self._prepared(test_dataset))

    def _prepared(self, dataset):
        if dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):  # `evaluate` takes each apart
            raise ValueError(f"a dict of data sets ({', '.join(dataset)}) to predict: give one of them")
        prepared = prepare_pairs(dataset, self.processing_class, self.args, "eval_dataset")
        refuse_unreadable_rows(self.model, prepared, "eval_dataset")
        return prepared


def refuse_unknown_metric(trainer) -> None:
    """Raise a ValueError for a metric to choose the best model by that no evaluation will have."""
    metric, data = trainer.args.metric_for_best_model, trainer.eval_dataset
    if not metric or data is None:
        return
    name = metric.removeprefix("eval_")
    if isinstance(data, dict):
        name = next((name.removeprefix(f"{part}_") for part in data if name.startswith(f"{part}_")), name)
    if name not in (known := ["loss", "runtime", *trainer.value_names()]):
        raise ValueError(f"metric_for_best_model is {metric!r}: give one of {', '.join(known)}")
