"""What ORPO and DPO share on Trainium: preference pairs in fixed shapes through Optimum Neuron's NeuronTrainer.

On an XLA device a step is not executed line by line: it is recorded as a graph, compiled once (on Trainium that
takes minutes) and replayed. So every batch has the same shape, nothing inside a step looks at a value, and what is
logged is summed on the device and read only when a log line is due. Tokenisation and collation are those of
`helpers.preferences`; the log-probs come from Optimum Neuron's cross entropy, which also works where tensor
parallelism spreads the vocabulary over cores (`optimum/neuron/models/training/loss_utils.py`).
"""

import os
from dataclasses import dataclass, field

import torch
import torch_xla.core.xla_model as xm
from neuronx_distributed.parallel_layers.parallel_state import get_data_parallel_replica_groups
from optimum.neuron import NeuronTrainer, NeuronTrainingArguments
from optimum.neuron.models.training.loss_utils import fixed_cross_entropy
from optimum.neuron.models.training.modeling_utils import NeuronModelMixin
from optimum.neuron.peft import get_peft_model

from helpers.logprobs import shared_attention_mask
from helpers.neuron.zero import mend_zero_1
from helpers.preferences import IGNORE, PreferenceCollator, shared_row_length, tokenize_preferences

DOWNCASTS = ("XLA_DOWNCAST_BF16", "XLA_USE_BF16")


@dataclass
class NeuronPreferenceConfig(NeuronTrainingArguments):
    """NeuronTrainingArguments and what preference pairs add to them. Every row is padded to `max_length`."""

    max_length: int = field(default=512, metadata={"help": "tokens of prompt + response, of every row"})
    max_prompt_length: int | None = field(default=None, metadata={"help": "tokens of the prompt, cut from its left"})
    layout: str = field(
        default="rows", metadata={"help": "'rows': two rows a pair; 'shared': one, with eager attention"}
    )
    row_length: int | None = field(
        default=None, metadata={"help": "tokens of every shared row; the longest pair's, rounded up to 64, by default"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "the collator reads columns by name"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "a smaller last batch would be a new graph"})
    skip_cache_push: bool = field(default=True, metadata={"help": "keep what was compiled out of the hub"})

    def __post_init__(self):
        if self.layout not in ("rows", "shared"):
            raise ValueError(f"layout {self.layout!r}: choose 'rows' or 'shared'")
        if self.layout == "shared":
            self.recompute_causal_mask = False  # else Optimum Neuron's models attend causally, whatever the mask
        super().__post_init__()


class NeuronPreferenceTrainer(NeuronTrainer):
    """Train on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`.

    A subclass names its `method` and computes its loss in `compute_loss`, which ends with `finish_loss`.
    `model` comes from `optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)`.
    Raises ValueError, before anything is compiled, for what NeuronTrainer can't do (see `refuse_unsupported`).
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
                train_dataset, processing_class, args.max_length, args.max_prompt_length
            )
        if args.layout == "shared":
            args.row_length = args.row_length or shared_row_length(train_dataset)
            told = f"{self.method} in shared rows of {args.row_length} tokens"
            print(f"{told}, instead of two of {args.max_length} a pair")
        length = args.row_length if args.layout == "shared" else args.max_length
        kwargs.setdefault("data_collator", PreferenceCollator(processing_class.pad_token_id, args.layout, length))
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, processing_class=processing_class, **kwargs
        )
        mend_zero_1(self)
        self.model_accepts_loss_kwargs = False  # else NeuronTrainer counts tokens to average over
        self._sums, self._summed, self._names, self._logged = None, 0, [], None

    def finish_loss(self, loss: torch.Tensor, metrics: dict[str, torch.Tensor], return_outputs: bool):
        """Keep the metrics (detached scalars); the loss divided by the accumulation steps as NeuronTrainer expects."""
        self._add_metrics(metrics)
        loss = loss / self.args.gradient_accumulation_steps
        return (loss, {}) if return_outputs else loss

    def _add_metrics(self, metrics: dict[str, torch.Tensor]) -> None:
        values = torch.stack(list(metrics.values()))
        if self._sums is None:
            # From the CPU: zeros that are made on the device would make the first step a graph of its own
            self._names, self._sums = list(metrics), torch.zeros(len(metrics)).to(values.device)
        self._sums += values
        self._summed += 1

    def maybe_log_train_step_metrics(self):
        """When a log line is due, average what was summed over micro-batches and data-parallel ranks.

        Nothing is read here. NeuronTrainer ends the step's graph, begins one that averages the loss, which this joins,
        and logs in a step closure, after that graph has run.
        """
        due = self.control.should_log and self.global_step_last_logged < self.state.global_step
        super().maybe_log_train_step_metrics()
        if due:
            means = self._sums / (self._summed * self.dp_size)
            self._logged = xm.all_reduce(xm.REDUCE_SUM, means, groups=get_data_parallel_replica_groups())
            self._sums.zero_()
            self._summed = 0

    def log(self, logs: dict[str, float]) -> None:
        """Add the metrics' means since the last log line."""
        if self._logged is not None:
            logs.update(zip(self._names, self._logged.cpu().tolist(), strict=True))
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


# ── log-probs ───────────────────────────────────────────────────────────────────────────────────────────────


def mean_pair_logps(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response, float32: two of shape (B,), in either layout."""
    if "segment_ids" in batch:
        return shared_logps(model, batch)
    chosen, rejected = response_logps(model, batch["input_ids"], batch["labels"]).chunk(2)
    return chosen, rejected


def summed_pair_logps(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The same summed over each response's tokens, as DPO takes them."""
    chosen, rejected = mean_pair_logps(model, batch)
    scored = batch["labels"] != IGNORE
    if "segment_ids" in batch:
        chosen_tokens, rejected_tokens = ((scored & own).sum(dim=1) for own in of_sides(batch["segment_ids"]))
    else:
        chosen_tokens, rejected_tokens = scored.sum(dim=1).chunk(2)
    return chosen * chosen_tokens, rejected * rejected_tokens


def response_logps(model, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean token log-prob of each row's response, float32: (2B, L) and labels (2B, L) → (2B,).

    Rows are right-padded, so that causal attention needs no mask.
    """
    targets = next_labels(labels)
    nll = token_nll(model(input_ids=input_ids).logits, targets)
    return -nll.sum(dim=1) / (targets != IGNORE).sum(dim=1)


def shared_logps(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response, float32, from (B, W): one row a pair."""
    segments, targets = batch["segment_ids"], next_labels(batch["labels"])
    mask = shared_attention_mask(segments, next(model.parameters()).dtype)  # made on the device: W² numbers a pair
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], attention_mask=mask).logits
    logps = -token_nll(logits, targets)
    sides = [(targets != IGNORE) & own for own in of_sides(next_labels(segments))]
    return tuple((logps * own).sum(dim=1) / own.sum(dim=1) for own in sides)


def of_sides(segments: torch.Tensor) -> list[torch.Tensor]:
    """Where a shared row has its chosen (segment 3i + 2) and where its rejected response (3i + 3); padding aside."""
    return [segments % 3 == side for side in (2, 0)]


def next_labels(labels: torch.Tensor) -> torch.Tensor:
    """Position t predicts token t + 1."""
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log p of each target, float32, 0 where it is −100: (rows, L, V) and (rows, L) → (rows, L).

    Under tensor parallelism the model returns the logits of this rank's part of the vocabulary, which
    `fixed_cross_entropy` overwrites: it is called once.
    """
    nll = fixed_cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return nll.view_as(targets)


# ── what NeuronTrainer can't do ─────────────────────────────────────────────────────────────────────────────


def refuse_unsupported(model, args, train_dataset, eval_dataset=None) -> None:
    """Raise a ValueError that says what to change, before a graph is compiled."""
    refuse_downcasts()
    trn_config = args.trn_config
    if trn_config.pipeline_parallel_size > 1:
        raise ValueError("pipeline_parallel_size > 1: its loss is computed inside the model; use tensor parallelism")
    if eval_dataset is not None or args.eval_strategy != "no":
        raise ValueError("NeuronTrainer has no evaluation during training: leave out eval_dataset, evaluate afterwards")
    if args.resume_from_checkpoint:
        raise ValueError(
            "NeuronTrainer can't resume: leave out resume_from_checkpoint and load the checkpoint as model"
        )
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if args.layout == "shared" and base.config._attn_implementation == "flash_attention_2":
        raise ValueError("layout='shared' needs a mask that the flash kernel can't take: use layout='rows', or eager")
    if not isinstance(base, NeuronModelMixin):
        raise ValueError(
            f"{type(base).__name__} is no training model of Optimum Neuron, which has Llama, Qwen3 and Granite: load "
            "it with optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)"
        )
    if args.layout == "shared" and base.trn_config.recompute_causal_mask:
        raise ValueError("layout='shared' needs its mask: load the model with the args.trn_config of these args")
    refuse_indivisible(base.config, trn_config.tensor_parallel_size)
    refuse_uneven(len(train_dataset), args)


def refuse_downcasts() -> None:
    """XLA's bf16 switches turn the float32 that the odds need into bf16."""
    if on := [name for name in DOWNCASTS if os.environ.get(name, "0").lower() not in ("", "0", "false")]:
        raise ValueError(
            f"{on[0]} is set and would make float32 bf16, in which the odds break: unset it, use bf16=True"
        )


def refuse_indivisible(config, tensor_parallel_size: int) -> None:
    """A tensor-parallel group splits vocabulary and heads evenly, or not at all."""
    for name in ("vocab_size", "num_attention_heads"):
        size = getattr(config, name)
        if size % tensor_parallel_size:
            raise ValueError(
                f"tensor_parallel_size {tensor_parallel_size} does not divide {name} {size}: choose one that does"
            )


def refuse_uneven(pairs: int, args) -> None:
    """Every batch has the same shape, so a smaller last one must be dropped, and there must be a whole one."""
    batch = args.per_device_train_batch_size * args.trn_config.data_parallel_size
    if pairs < batch:
        raise ValueError(f"{pairs} pairs do not fill one batch of {batch}: lower per_device_train_batch_size")
    if pairs % batch and not args.dataloader_drop_last:
        raise ValueError(
            f"the last batch would hold {pairs % batch} of {batch} pairs, a new shape and a new graph: "
            "set dataloader_drop_last=True"
        )
