"""Which arguments of TRL's ORPOConfig and ORPOTrainer ours follows, and which it refuses: a table for the docs.

`make figures` writes it to docs/trl_arguments.md; a test holds the table, and each refusal in it, to the code.
"""

import inspect
from dataclasses import fields

from transformers import TrainingArguments

from helpers.evaluation import markdown_table
from helpers.training.arguments import UNFOLLOWED
from helpers.training.config import REFUSED
from helpers.training.orpo import ORPOConfig

try:
    from trl import ORPOConfig as TheirConfig
    from trl import ORPOTrainer as TheirTrainer
except ImportError:  # TRL 1
    from trl.experimental.orpo import ORPOConfig as TheirConfig
    from trl.experimental.orpo import ORPOTrainer as TheirTrainer

NEWER = ("trust_remote_code",)  # arguments that TRL 1.16 has and 0.24, from which the table is made, has not
OURS = {  # where our default is another one than TRL's, and why
    "bf16": "off: spare memory only if you ask",
    "gradient_checkpointing": "off: spare memory only if you ask",
    "max_prompt_length": "no limit of its own: max_length cuts",
    "model_init_kwargs": "None: weights are float32",
}


def config_arguments() -> dict[str, str]:
    """{argument: what ours does with it}, of those that TRL's ORPOConfig adds to TrainingArguments or sets anew."""
    theirs = {field.name: field.default for field in fields(TheirConfig)}
    plain = {field.name: field.default for field in fields(TrainingArguments)}
    own = [name for name, default in theirs.items() if name not in plain or default != plain[name]]
    own += [name for name in NEWER if name not in own]
    return {name: status(name) for name in [*own, *(name for name in REFUSED if name in plain and name not in own)]}


def status(name: str) -> str:
    """What ours does with an argument of the config."""
    ours = {field.name: field for field in fields(ORPOConfig)}
    if name in REFUSED:
        neutral, why = REFUSED[name]
        return f"refused unless {' or '.join(map(repr, neutral))}: {why}"
    if name not in ours:
        raise KeyError(f"ORPOConfig has no {name}: add it, or refuse it in helpers/training/arguments.py")
    return f"followed; default {OURS.get(name) or ours[name].default}"


def trainer_arguments() -> dict[str, str]:
    """{argument: what ours does with it}, of the constructor of TRL's ORPOTrainer."""
    names = [name for name in inspect.signature(TheirTrainer.__init__).parameters if name != "self"]
    refused = {name: "refused: the trainer computes its own loss and returns no predictions" for name in UNFOLLOWED}
    return {name: refused.get(name, "followed") for name in names}


def rows() -> list[list[str]]:
    """Both, as rows of a table."""
    parts = {"ORPOConfig": config_arguments(), "ORPOTrainer": trainer_arguments()}
    return [[f"`{name}`", part, what] for part, arguments in parts.items() for name, what in arguments.items()]


def table() -> str:
    """Markdown."""
    made = markdown_table(["argument", "of", "here"], rows())
    return f"{made}\n\n*Made by `make figures` from TRL 0.24 and 1.16, and `helpers/training/config.py`.*"
