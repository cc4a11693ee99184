"""The arguments of scripts/train.py: what it adds to the backend's own, its defaults, and what it refuses.

Whatever is given is followed, or refused in one line before anything is trained.
"""

import importlib.util
import itertools
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from transformers import HfArgumentParser

from helpers.backends import NAMES, detect
from helpers.credentials import kind_of_credential
from helpers.data.load import BUILT_IN
from helpers.data.pair_warnings import MAY_BE_SECRET
from helpers.files import MAKING
from helpers.training.config import REFUSED
from helpers.training.profiles import PROFILES, get_profile

PRECOMPILE_STEPS = 3  # Optimum Neuron has shown all of its graphs by then
REPORTERS = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
REPORTERS |= {"comet_ml": ("comet_ml",), "clearml": ("clearml",), "dvclive": ("dvclive",), "swanlab": ("swanlab",)}
EVALUATION = "train.py evaluates nothing: leave it out, and measure the model afterwards"
TOKENIZED = "the pairs are tokenised before TRL sees them: leave it out"
UNFOLLOWED = {
    "eval_strategy": EVALUATION,  # before do_eval, which transformers sets along with it
    "do_eval": EVALUATION,
    "do_predict": EVALUATION,
    "max_completion_length": f"{TOKENIZED}, and set max_length",
    "truncation_mode": TOKENIZED,
    "tools": TOKENIZED,
    "dataset_text_field": TOKENIZED,
    "dataset_kwargs": TOKENIZED,
    "dataset_num_proc": TOKENIZED,
    "chat_template_path": TOKENIZED,
    "eos_token": TOKENIZED,
    "assistant_only_loss": f"{TOKENIZED}; the loss covers the answer only",
}

TOKENS = ("hub_token", "push_to_hub_token")
UNTRIED = {name: REFUSED[name][1] for name in ("fsdp", "deepspeed")}
UNTRIED["use_liger_kernel"] = "it is untried here; leave it out"
POSITIVE = ("per_device_train_batch_size", "gradient_accumulation_steps", "logging_steps", "save_steps")


@dataclass
class ScriptArguments:
    """What this script adds to the backend's own arguments."""

    method: str = field(metadata={"help": "which objective", "choices": ["sft", "orpo", "dpo"]})
    model: str = field(
        default_factory=lambda: os.environ.get("WORKSHOP_MODEL") or PROFILES["laptop"].model,
        metadata={"help": "a folder, a hub id, 'packaged' or 'smoke'"},
    )
    data: str = field(
        default_factory=lambda: os.environ.get("SM_CHANNEL_TRAIN", BUILT_IN),
        metadata={
            "help": "a file (JSON Lines, CSV, Parquet, …), a folder with train.jsonl or its parts, a URL, a hub id, or "
            "the built-in domain: docs/own_data.md"
        },
    )
    pairs: int | None = field(default=None, metadata={"help": "how many training pairs; all by default"})
    system_in_user: bool = field(
        default=False, metadata={"help": "put the system text in front of the first user message (Gemma, Mistral)"}
    )
    lora_rank: int = field(default=0, metadata={"help": "rank of the LoRA adapter; 0 trains every weight"})
    backend: str | None = field(default=None, metadata={"help": "instead of the one found", "choices": [*NAMES]})
    will_it_compile: bool = field(default=False, metadata={"help": "only say whether the compile cache has its graphs"})
    start_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "a checkpoint (True: the last one of output_dir) whose weights to start from, with the steps and "
            "the schedule that are left; for a backend that can't resume"
        },
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace the model that output_dir holds"})


class OneLineParser(HfArgumentParser):
    """Says what is wrong with an argument in a ValueError, without the hundred lines of usage."""

    def error(self, message: str):
        raise ValueError(f"{message}; --help lists the arguments")


def parse(arguments: list[str]):
    """(ScriptArguments, Backend, the backend's config). The config's class depends on the first two."""
    if any(argument in ("-h", "--help") for argument in arguments) and "--method" not in arguments:
        HfArgumentParser(ScriptArguments).parse_args_into_dataclasses(["--help"])
    refuse_secrets(arguments)
    script, rest = OneLineParser(ScriptArguments).parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    backend = detect(script.backend)
    config = backend.config(script.method)
    preset = defaults(backend, rest)
    if script.method == "sft" and any(each.name == "completion_only_loss" for each in fields(config)):
        preset += ["--completion_only_loss", "True"]  # unset, TRL learns the prompt of tokenised rows too
    if not backend.fixed_shapes:
        refuse_untried(rest)
    args, unknown = OneLineParser(config).parse_args_into_dataclasses(preset + rest, return_remaining_strings=True)
    if unknown:
        raise ValueError(f"{unknown[0]} is no argument of --method {script.method}: --help lists the arguments")
    args.report_to = [name for part in args.report_to for name in part.split(",")]
    return script, backend, args


def refuse_secrets(told: list[str]) -> None:
    """Raise a ValueError for a credential among the arguments; it never shows it."""
    name = ""
    for part in (part for argument in told for part in argument.split("=", 1)):
        name = part if part.startswith("--") else name
        by_name = part == name and part.lstrip("-").replace("-", "_") in TOKENS
        if by_name or (MAY_BE_SECRET.search(part) and kind_of_credential(part)):
            raise ValueError(
                f"{((by_name or part != name) and name) or 'an argument'} looks like a credential, which the process "
                "list would show and training_args.bin keep: leave it out, and set the environment variable HF_TOKEN "
                "(in a job: token_secret=, the name of a secret)"
            )


def refuse_untried(told: list[str]) -> None:
    """Raise a ValueError for what a library would ignore in silence, or end with a traceback for."""
    parts = [part for argument in told for part in argument.split("=", 1)]
    given = dict(itertools.pairwise(parts))
    for name, reason in UNTRIED.items():
        if given.get(f"--{name}", "").lower() not in ("", "false", "none", "0", "no"):
            raise ValueError(f"{name} can't be followed: {reason}")


def defaults(backend, told: list[str]) -> list[str]:
    """What holds unless told: every step is logged, as JSON and nowhere else; precision as the backend found it.

    On SageMaker the run folder is kept. TRL's own defaults differ by method.
    """
    found = {"logging_steps": 1, "report_to": "none", "disable_tqdm": True}
    if folder := os.environ.get("SM_OUTPUT_DATA_DIR"):
        found["output_dir"] = folder
    if os.environ.get("WORKSHOP_SEED"):
        found["seed"] = get_profile("laptop").seed
    if not backend.fixed_shapes:
        found |= {"gradient_checkpointing": False, "use_cpu": backend.name == "cpu"}
        if not any(argument.startswith("--fp16") for argument in told):
            found["bf16"] = backend.dtype == torch.bfloat16
    return [part for name, value in found.items() for part in (f"--{name}", str(value))]


def precision(args) -> str:
    """What the run trains in, in a word."""
    return "bf16" if args.bf16 else "fp16" if getattr(args, "fp16", False) else "float32"


def refuse_arguments(script: ScriptArguments, backend, args) -> None:
    """Raise a ValueError for what can't be followed here."""
    if args.max_steps == 0:
        raise ValueError("max_steps is 0: give a positive number, or leave it out to train num_train_epochs")
    if args.max_steps < 0 and args.num_train_epochs <= 0:
        raise ValueError(f"num_train_epochs is {args.num_train_epochs}: give a positive number, or max_steps")
    for name in POSITIVE:
        if getattr(args, name) <= 0:
            raise ValueError(f"{name} is {getattr(args, name)}: give a positive number")
    if args.learning_rate < 0:
        raise ValueError(f"learning_rate is {args.learning_rate}: give 0 or more")
    if precision(args) == "fp16" and backend.name == "cpu":
        raise ValueError("fp16 needs a CUDA GPU: use --bf16 True, or neither")
    if getattr(args, "use_cpu", False) and backend.name not in ("cpu", "neuron"):
        raise ValueError(f"use_cpu contradicts the backend {backend.name}: use --backend cpu")
    if script.lora_rank < 0:
        raise ValueError(f"lora_rank is {script.lora_rank}: give 1 or more, or 0 to train every weight")
    if script.pairs is not None and script.pairs < 1:
        raise ValueError(f"pairs is {script.pairs}: give 1 or more, or leave it out to train on all")
    refuse_unfollowed(args)
    refuse_reporters(args.report_to, backend)


def refuse_unfollowed(args) -> None:
    """Arguments of the config that nothing here would act on, where they are not at their default."""
    known = {each.name: each for each in fields(args)}
    for name, reason in UNFOLLOWED.items():
        if name in known:
            value, default = getattr(args, name), known[name].default
            if getattr(value, "value", value) != getattr(default, "value", default):
                raise ValueError(f"{name} can't be followed: {reason}")


def refuse_reporters(names: list[str], backend) -> None:
    """Each is known, its package is installed, and the backend is one whose trainers report."""
    if names and backend.fixed_shapes:
        raise ValueError(
            f"report_to {names[0]} is untried with Optimum Neuron: leave it out, each step is in log.jsonl"
        )
    for name in names:
        packages = REPORTERS.get(name, ())
        if packages and not any(importlib.util.find_spec(package) for package in packages):
            raise ValueError(f"report_to {name} needs the package {packages[0]}: pip install {packages[0]}")


def refuse_overwriting(script: ScriptArguments, checkpoint: str | None, stage, model: Path):
    """What an earlier run left in the folder is replaced only if that is asked for, or gone on from."""
    goes_on = checkpoint and Path(checkpoint).resolve().parent == stage.checkpoints.resolve()
    if script.overwrite_output_dir or goes_on:
        return
    for folder, what, go_on in (
        (model, "a trained model", ""),
        (stage.checkpoints, "checkpoints of a stopped run", " go on with --resume_from_checkpoint True,"),
    ):
        if folder.is_dir() and any(path.name != MAKING for path in folder.iterdir()):  # of a kill while it was saved
            fix = f"name another --output_dir,{go_on} or replace it with --overwrite_output_dir True"
            raise ValueError(f"{folder} holds {what}: {fix}")


def settle(script: ScriptArguments, backend, args, precompiling: bool):
    """The arguments, once none is refused; to precompile, a few steps do."""
    refuse_arguments(script, backend, args)
    if precompiling:
        args.max_steps, args.save_strategy = PRECOMPILE_STEPS, "no"
    return args
