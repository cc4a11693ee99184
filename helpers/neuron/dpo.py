"""DPO on Trainium: `helpers.objective.dpo` on ORPO's trainer, with the reference's log-probs computed beforehand.

Until the first step the policy *is* the reference. So the model itself gives the reference log-probs, without
gradient, in the shapes of a training batch: no second model in memory, and what tensor parallelism spreads over cores
stays spread. What it costs beside ORPO: one forward pass over all training pairs before the first step, shared among
the data-parallel ranks, and one graph (two numbers a pair are kept, on the host). Where the pairs come with reference
log-probs, that graph runs once, to see that they are this model's.
"""

from dataclasses import dataclass, field

import torch
import torch_xla.core.xla_model as xm
from neuronx_distributed.parallel_layers.parallel_state import get_data_parallel_rank, get_data_parallel_replica_groups
from optimum.neuron.utils.misc import is_precompilation
from tqdm.auto import tqdm

from helpers.data.schema import REFERENCE
from helpers.neuron.logprobs import summed_pair_logps
from helpers.neuron.preference import NeuronPreferenceConfig, NeuronPreferenceTrainer
from helpers.objective.dpo import dpo_loss, dpo_metrics
from helpers.training.dpo_reference import (
    refuse_difference,
    refuse_non_finite_reference,
    spread,
    with_columns,
)


@dataclass
class NeuronDPOConfig(NeuronPreferenceConfig):
    """NeuronTrainingArguments and what DPO adds to them. Every row is padded to `max_length`."""

    beta: float = field(default=0.1, metadata={"help": "how dear it is to move away from the reference"})

    def __post_init__(self):
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}: DPO's must be positive, or there is nothing to learn")


class NeuronDPOTrainer(NeuronPreferenceTrainer):
    """Train with DPO on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`.

    `model`, which is also the reference, comes from
    `optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)`. Pairs may have
    `ref_chosen_logps` and `ref_rejected_logps` (sums, nats; `helpers.training.dpo_reference.with_reference_logps`);
    without them, training begins by computing them. Raises ValueError for what NeuronTrainer can't do, before anything
    is compiled, and for another model's reference log-probs before the first step.
    """

    method = "DPO"
    _has_reference = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """L_DPO of one micro-batch, a scalar, times its share of the update as NeuronTrainer expects."""
        logps = summed_pair_logps(model, inputs, self.response_length)
        reference = [inputs[name] for name in REFERENCE]
        loss = dpo_loss(*logps, *reference, self.args.beta)
        metrics = dpo_metrics(*(each.detach() for each in logps), *reference, self.args.beta)
        return self.finish_loss(loss, metrics, inputs, return_outputs)

    def get_train_dataloader(self):
        """Training begins with this, before there is an optimizer: the reference first."""
        if not self._has_reference:
            self.model = self.accelerator.prepare_model(self.model)
            given = set(REFERENCE) <= set(self.train_dataset.column_names)
            self.train_dataset = self.checked() if given else self.measured()
            self._has_reference = True
        return super().get_train_dataloader()

    def measured(self):
        """The training pairs with this model's log-probs as reference."""
        pairs = len(self.train_dataset)
        if is_precompilation():  # nothing is executed: one batch shows the graph
            self.forward_logps(range(1))
            return with_columns(self.train_dataset, {name: [0.0] * pairs for name in REFERENCE})
        return refuse_non_finite_reference(with_columns(self.train_dataset, self.forward_logps(range(pairs))))

    def checked(self):
        """The training pairs, whose reference log-probs must be those of this model."""
        refuse_non_finite_reference(self.train_dataset)
        few = spread(len(self.train_dataset), self.args.per_device_train_batch_size * self.dp_size)
        logps = self.forward_logps(few)
        if not is_precompilation():
            refuse_difference(self.train_dataset.select(few), logps)
        return self.train_dataset

    def forward_logps(self, rows) -> dict[str, list[float]]:
        """{column: summed log-prob of the response of each of these rows}, the same on every process.

        Each data-parallel rank computes a batch at a time, and all get the numbers of all. Batches that are not full
        begin the rows again: one shape, one graph, and every rank runs it equally often.
        """
        batch = self.args.per_device_train_batch_size
        own, together = get_data_parallel_rank() * batch, batch * self.dp_size
        starts = range(0, len(rows), together)
        values, training = [], self.model.training
        self.model.eval()
        for start in tqdm(starts, desc="Reference log-probs", disable=not self.is_world_process_zero()):
            mine = [rows[(start + own + i) % len(rows)] for i in range(batch)]
            values.append(self.batch_logps([self.train_dataset[row] for row in mine]))
        self.model.train(training)
        chosen, rejected = torch.cat(values)[: len(rows)].T.tolist()
        return dict(zip(REFERENCE, (chosen, rejected), strict=True))

    @torch.no_grad()
    def batch_logps(self, examples: list[dict]) -> torch.Tensor:
        """Summed log-probs of a batch on each data-parallel rank, chosen and rejected: (ranks · B, 2), on the host."""
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in self.data_collator(examples).items()}
        with self.autocast_smart_context_manager():
            logps = torch.stack(summed_pair_logps(self.model, batch, self.response_length), dim=1)
        # Not pinned: with its layout pinned, torch-xla writes the rank into the graph, and every rank compiles its own
        gathered = xm.all_gather(logps, groups=get_data_parallel_replica_groups(), pin_layout=False)
        xm.mark_step()  # else the order of the gathers, all since the first, is a part of each graph: a new one a batch
        return gathered.cpu()
