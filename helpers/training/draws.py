"""Which rows a step draws: the same in a whole run, in one that is gone on with, and on any number of processes.

transformers and accelerate draw other rows after a resume in the middle of a later epoch (they set the epoch to 0), and
with several processes fill up an epoch's last batch with rows that were there already.
"""

import torch
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices


class EpochOrder(Sampler):
    """Every row once, in an order that follows from seed and epoch alone: that of a plain Trainer's first run.

    With `lengths`, rows of like length come together, `together` of them in an update.
    """

    def __init__(self, rows: int, seed: int, lengths: list[int] | None = None, together: int = 1):
        self.rows, self.seed, self.lengths, self.together = rows, seed, lengths, together
        self.epoch = 0

    def __len__(self):
        return self.rows

    def __iter__(self):
        draw = torch.Generator().manual_seed(self.seed + self.epoch)
        if self.lengths is None:
            return iter(torch.randperm(self.rows, generator=draw).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.together, generator=draw))

    def set_epoch(self, epoch: int) -> None:
        """Epochs only go up: accelerate says 0 again where Trainer skips what a stopped run has drawn."""
        self.epoch = max(self.epoch, epoch)


def epoch_order(trainer, grouped: bool = False) -> EpochOrder:
    """The order of a trainer's rows; `grouped` by length, which does not depend on how an update is split."""
    args, rows = trainer.args, trainer.train_dataset
    seed = args.seed if args.data_seed is None else args.data_seed
    if not grouped:
        return EpochOrder(len(rows), seed)
    together = trainer._train_batch_size * args.gradient_accumulation_steps * args.world_size
    return EpochOrder(len(rows), seed, list(rows["length"]), together)


def draw_as_a_whole_run(trainer) -> None:
    """Give a library's trainer the order of `epoch_order`, if it draws at random and has its own sampler."""
    if draws_at_random(trainer.args) and type(trainer)._get_train_sampler is Trainer._get_train_sampler:
        trainer._get_train_sampler = lambda *_: epoch_order(trainer)


def draws_at_random(args) -> bool:
    """True unless another order was asked for."""
    return way_of_drawing(args) == "random"


def way_of_drawing(args) -> str:
    """'random', 'group_by_length' or, in transformers 5, another; transformers 4 has another name for it."""
    by_length = getattr(args, "group_by_length", False)
    return "group_by_length" if by_length else getattr(args, "train_sampling_strategy", "random")


def first_draws(trainer, size: int) -> int:
    """How many of the `size` rows that were drawn last, in this process, were not there already in this epoch."""
    args, state = trainer.args, trainer.accelerator.gradient_state
    batch = trainer._train_batch_size  # not the config's where a checkpoint has another
    left = len(trainer.train_dataset) % (batch * args.world_size)
    if args.world_size == 1 or args.dataloader_drop_last or not left or not state.end_of_dataloader:
        return size
    return min(max(left - batch * args.process_index, 0), size)


def first_evaluated(trainer, size: int) -> int:
    """The same of the `size` rows of an evaluation's batch."""
    args, state = trainer.args, trainer.accelerator.gradient_state
    left = state.remainder if state.end_of_dataloader else 0
    return min(max(left - size * args.process_index, 0), size) if left > 0 else size


def refuse_other_ways_of_drawing(args) -> None:
    """Raise a ValueError for what several processes would draw in an order or number that can't be told here."""
    ways = args.accelerator_config.to_dict() if args.accelerator_config else {}
    unusual = {"split_batches": True, "dispatch_batches": True, "even_batches": False}
    for name, value in unusual.items():
        if args.world_size > 1 and ways.get(name) is value:
            raise ValueError(
                f"accelerator_config: {name}={value} can't be followed with several processes: leave it out"
            )
    if args.world_size > 1 and (way := way_of_drawing(args)) == "batch_rebalance":
        raise ValueError(f"train_sampling_strategy={way!r} can't be followed with several processes: leave it out")
    if args.world_size > 1 and args.auto_find_batch_size:
        raise ValueError(
            "auto_find_batch_size can't be followed with several processes, of which each would find its own: lower "
            "per_device_train_batch_size"
        )


def refuse_too_few(trainer) -> None:
    """Raise a ValueError where every batch would be dropped."""
    args, rows = trainer.args, trainer.train_dataset
    together = args.train_batch_size * args.world_size
    if rows is not None and args.dataloader_drop_last and len(rows) < together:
        raise ValueError(
            f"train_dataset has {len(rows)} rows, fewer than a batch of {together}, which dataloader_drop_last drops: "
            "leave it out, or lower per_device_train_batch_size"
        )
