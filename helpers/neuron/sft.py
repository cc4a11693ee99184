"""Optimum Neuron's SFT trainer with what the workshop's others have: its faults fixed, one shape, refusals in time."""

from dataclasses import dataclass, field

from optimum.neuron import NeuronSFTConfig as UpstreamSFTConfig
from optimum.neuron import NeuronSFTTrainer as UpstreamSFTTrainer

from helpers.neuron.changes import Changed
from helpers.neuron.refusals import refuse_arguments, refuse_unsupported


@dataclass
class NeuronSFTConfig(UpstreamSFTConfig):
    """Optimum Neuron's arguments; raises ValueError for those that NeuronTrainer can't follow."""

    dataloader_drop_last: bool = field(default=True, metadata={"help": "a smaller last batch would be a new graph"})
    skip_cache_push: bool = field(default=True, metadata={"help": "keep what was compiled out of the hub"})

    def __post_init__(self):
        refuse_arguments(self)
        super().__post_init__()


class NeuronSFTTrainer(Changed, UpstreamSFTTrainer):
    """Optimum Neuron's SFT trainer, corrected; raises ValueError, before anything is compiled, for what it can't do."""

    def __init__(self, model, args, train_dataset, eval_dataset=None, **kwargs):
        refuse_unsupported(model, args, train_dataset, eval_dataset)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.change()
