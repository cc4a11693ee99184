"""What ORPO and DPO share on Trainium: preference pairs in fixed shapes through Optimum Neuron's NeuronTrainer.

On an XLA device a step is not executed line by line: it is recorded as a graph, compiled once (on Trainium that
takes minutes) and replayed. So every batch has the same shape, nothing inside a step looks at a value, and what is
logged is summed on the device and read only when a log line is due. Tokenisation and collation are those of
`helpers.data`; the log-probs are those of `helpers.neuron.logprobs`.
"""

from dataclasses import dataclass, field
from itertools import islice

import torch
import torch_xla.core.xla_model as xm
from neuronx_distributed.parallel_layers.parallel_state import get_data_parallel_replica_groups
from optimum.neuron import NeuronTrainer, NeuronTrainingArguments
from optimum.neuron.peft import get_peft_model

from helpers.data.collate import PreferenceCollator
from helpers.data.door import as_conversations
from helpers.data.tokenize import tokenize_preferences
from helpers.neuron.changes import Changed
from helpers.neuron.refusals import refuse_arguments, refuse_unsupported
from helpers.neuron.shapes import response_length, settle_row_length


@dataclass
class NeuronPreferenceConfig(NeuronTrainingArguments):
    """NeuronTrainingArguments and what preference pairs add to them. Every row is padded to `max_length`.

    Raises ValueError for arguments that NeuronTrainer can't follow (see `helpers.neuron.refusals`).
    """

    max_length: int = field(default=512, metadata={"help": "tokens of prompt + response, of every row"})
    max_prompt_length: int | None = field(default=None, metadata={"help": "tokens of the prompt, cut from its left"})
    layout: str = field(
        default="rows", metadata={"help": "'rows': two rows a pair; 'shared': one, with eager attention"}
    )
    row_length: int | None = field(
        default=None, metadata={"help": "tokens of every shared row; the longest pair's, rounded up to 64, by default"}
    )
    max_response_length: int | None = field(
        default=None,
        metadata={
            "help": "positions of each response that get logits; the longest response's, rounded up to 64, by default"
        },
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "the collator reads columns by name"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "a smaller last batch would be a new graph"})
    skip_cache_push: bool = field(default=True, metadata={"help": "keep what was compiled out of the hub"})

    def __post_init__(self):
        refuse_arguments(self)
        if self.layout not in ("rows", "shared"):
            raise ValueError(f"layout {self.layout!r}: choose 'rows' or 'shared'")
        if self.max_response_length is not None and self.max_response_length < 1:
            raise ValueError(f"max_response_length is {self.max_response_length}: give 1 or more, or leave it out")
        if self.layout == "shared":
            self.recompute_causal_mask = False  # else Optimum Neuron's models attend causally, whatever the mask
        super().__post_init__()


class NeuronPreferenceTrainer(Changed, NeuronTrainer):
    """Train on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`.

    A subclass names its `method` and computes its loss in `compute_loss`, which ends with `finish_loss`.
    `model` comes from `optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)`.
    Raises ValueError, before anything is compiled, for what NeuronTrainer can't do (see `helpers.neuron.refusals`).
    """

    method: str

    def __init__(
        self,
        model,
        args: NeuronPreferenceConfig,
        train_dataset,
        eval_dataset=None,
        processing_class=None,
        peft_config=None,
        **kwargs,
    ):
        refuse_unsupported(model, args, train_dataset, eval_dataset)
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
        if "chosen_input_ids" not in train_dataset.column_names:
            train_dataset = tokenize_preferences(
                as_conversations(train_dataset), processing_class, args.max_length, args.max_prompt_length
            )
        self.response_length = response_length(args, train_dataset)
        if args.layout == "shared":
            settle_row_length(args, train_dataset)
            told = f"{self.method} in shared rows of {args.row_length} tokens"
            print(f"{told}, instead of two of {args.max_length} a pair")
        length = args.row_length if args.layout == "shared" else args.max_length
        kwargs.setdefault("data_collator", PreferenceCollator(processing_class.pad_token_id, args.layout, length))
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, processing_class=processing_class, **kwargs
        )
        self.change()
        answers = 2 if args.layout == "shared" else 1
        if self.response_length * answers < length and self.is_world_process_zero():
            told = f"logits for {self.response_length} positions of each response"
            print(f"{self.method}: {told}, not for all {length} of a row", flush=True)
        self.model_accepts_loss_kwargs = False  # else NeuronTrainer counts tokens to average over
        self._sums, self._summed, self._names, self._logged = None, 0, [], None

    def get_batch_samples(self, epoch_iterator, num_batches, **kwargs):
        """The micro-batches of one update, each with its share of it: at the end of an epoch there may be fewer.

        The share is a tensor, since a number would be part of the graph, and another number another graph.
        """
        batches = list(islice(epoch_iterator, num_batches))
        shares = [{"share": torch.full((1,), 1 / len(batches))} for _ in batches]
        together = [batch | share for batch, share in zip(batches, shares, strict=True)]
        return super().get_batch_samples(iter(together), len(together), **kwargs)

    def finish_loss(self, loss: torch.Tensor, metrics: dict[str, torch.Tensor], inputs: dict, return_outputs: bool):
        """Keep the metrics (detached scalars); the loss times the micro-batch's share of the update."""
        self._add_metrics(metrics)
        loss = (loss * inputs["share"]).squeeze()
        return (loss, {}) if return_outputs else loss

    def _add_metrics(self, metrics: dict[str, torch.Tensor]) -> None:
        values = torch.stack(list(metrics.values()))
        if self._sums is None:
            # From the CPU: zeros that are made on the device would make the first step a graph of its own
            self._names, self._sums = list(metrics), torch.zeros(len(metrics)).to(values.device)
        self._sums += values
        self._summed += 1

    def maybe_log_train_step_metrics(self):
        """When a log line is due, sum what micro-batches and data-parallel ranks have; `log` makes it a mean.

        Nothing is read here. NeuronTrainer ends the step's graph, begins one that averages the loss, which this joins,
        and logs in a step closure, after that graph has run.
        """
        due = self.control.should_log and self.global_step_last_logged < self.state.global_step
        super().maybe_log_train_step_metrics()
        if due:
            sums = xm.all_reduce(xm.REDUCE_SUM, self._sums.clone(), groups=get_data_parallel_replica_groups())
            self._logged = sums, self._summed * self.dp_size
            self._sums.zero_()
            self._summed = 0

    def log(self, logs: dict[str, float]) -> None:
        """Add the metrics' means since the last log line."""
        if self._logged is not None:
            sums, count = self._logged
            logs.update(zip(self._names, (sums.cpu() / count).tolist(), strict=True))
            self._logged = None
        super().log(logs)

    def train(self, resume_from_checkpoint=None):
        """Train from the start: NeuronTrainer can't resume."""
        if resume_from_checkpoint:
            raise ValueError(
                "resume_from_checkpoint is not supported by NeuronTrainer: load the checkpoint as the model instead "
                "(NeuronModelForCausalLM.from_pretrained(checkpoint, args.trn_config)) and train the steps that remain"
            )
        return super().train()
