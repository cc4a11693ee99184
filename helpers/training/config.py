"""The arguments of a trainer of preference pairs, under TRL's names: each is followed, or refused in one line.

`REFUSED` holds those that are not followed; `docs/trl_arguments.md` lists them all.
"""

import math
import os
from dataclasses import dataclass, field

from transformers import TrainingArguments

# accelerate 1.8 and 1.15 make a run FSDP's for accelerators alone (state.py, AcceleratorState.__init__): with gloo on a
# CPU they train with DDP and say nothing
FSDP = "accelerate splits no model on a CPU, and on GPUs it is untried here; start with torchrun alone"
NO_METRICS = "nothing is computed from predictions; leave it out"
# Arguments that can't be followed: {name: (the values that ask for nothing, why not and what to do)}
REFUSED = {
    "label_smoothing_factor": ((0.0,), "the loss of pairs has no smoothed labels; leave it out"),
    "max_completion_length": ((None,), "only an encoder-decoder model has it; set max_length"),
    "truncation_mode": (("keep_end",), "a prompt keeps its end and a response its beginning; leave it out"),
    "label_pad_token_id": ((-100,), "labels are masked with -100, which PyTorch leaves out; leave it out"),
    "generate_during_eval": ((False,), "generate answers afterwards, with helpers.evaluation.generate_answers"),
    "is_encoder_decoder": ((None, False), "prompt and response are one row, for causal models; leave it out"),
    "fsdp": ((None, False, "", []), FSDP),
    "deepspeed": ((None,), "it is untried here; leave it out"),
    "use_liger_kernel": ((False,), "log-probs come from the hidden states already; leave it out"),
    "remove_unused_columns": ((False,), "the collator reads columns by name; leave it out"),
    "parallelism_config": ((None,), "it is untried here; leave it out"),
    "jit_mode_eval": ((False,), "what it traces makes logits, which are left out here; leave it out"),
    "use_legacy_prediction_loop": ((False,), "the older loop would leave out the rewards; leave it out"),
    "past_index": ((-1,), "no state is kept from one batch to the next; leave it out"),
    "label_names": ((None, [], ["labels"]), "the collator names them; leave it out"),
    "length_column_name": (("length",), "lengths are counted in tokens here; leave it out"),
    "include_inputs_for_metrics": ((False,), NO_METRICS),
    "include_for_metrics": (([],), NO_METRICS),
    "batch_eval_metrics": ((False,), NO_METRICS),
}
MEMORY = {"bf16": True, "gradient_checkpointing": True, "max_prompt_length": 512}  # TRL's defaults


@dataclass
class PreferenceConfig(TrainingArguments):
    """TrainingArguments and what preference pairs add to them."""

    _VALID_DICT_FIELDS = (*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs")  # may be JSON

    learning_rate: float = field(default=1e-6, metadata={"help": "TRL's default; LoRA wants more, such as 1e-4"})
    logging_steps: float = field(default=10, metadata={"help": "steps between two log lines"})
    max_length: int | None = field(default=1024, metadata={"help": "tokens of prompt + response; None: no limit"})
    max_prompt_length: int | None = field(default=None, metadata={"help": "tokens of the prompt, cut from its left"})
    layout: str = field(default="shared", metadata={"help": "'shared': one row a pair; 'rows': two, the textbook way"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "the collator reads columns by name"})
    disable_dropout: bool = field(default=True, metadata={"help": "train without the model's dropout"})
    padding_value: int | None = field(
        default=None, metadata={"help": "pads rows in place of the tokenizer's pad token"}
    )
    model_init_kwargs: dict | str | None = field(default=None, metadata={"help": "for a model that is given by name"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run the code of a model that is given by name"})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "processes that tokenise"})
    max_completion_length: int | None = field(default=None, metadata={"help": "refused: set max_length"})
    truncation_mode: str = field(default="keep_end", metadata={"help": "the end of a prompt is kept; else refused"})
    label_pad_token_id: int = field(default=-100, metadata={"help": "-100; else refused"})
    generate_during_eval: bool = field(default=False, metadata={"help": "refused"})
    is_encoder_decoder: bool | None = field(default=None, metadata={"help": "refused: causal models only"})

    def __post_init__(self):
        refuse_config(self)  # first: transformers leaves what it is asked for, such as FSDP, in the environment
        refuse_launchers_fsdp()
        super().__post_init__()
        if self.layout not in ("shared", "rows"):
            raise ValueError(f"layout {self.layout!r}: choose 'shared' or 'rows'")


def refuse_config(args) -> None:
    """Raise a ValueError for the first argument of `REFUSED` that asks for something, or for a length below 1."""
    for name, (neutral, reason) in REFUSED.items():
        if getattr(args, name, neutral[0]) not in neutral:
            raise ValueError(f"{name} can't be followed: {reason}")
    for name in ("max_length", "max_prompt_length", "dataset_num_proc"):
        if (value := getattr(args, name)) is not None and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} is {value!r}: give 1 or more, or None")


def is_weight(value) -> bool:
    """True for a number that can weigh something: 0 or more, and finite."""
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def differences(args) -> str:
    """What spares memory under TRL's defaults and not under these arguments; empty if nothing differs."""
    given = {name: getattr(args, name) for name in MEMORY}
    return ", ".join(f"{name} {given[name]} ({value})" for name, value in MEMORY.items() if given[name] != value)


def refuse_launchers_fsdp() -> None:
    """Raise a ValueError where `accelerate launch --use_fsdp` asks for what `REFUSED` has: it does so in silence."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError(f"fsdp can't be followed: {FSDP}")
