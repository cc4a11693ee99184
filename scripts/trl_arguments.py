"""Which arguments of TRL's ORPOConfig and ORPOTrainer ours follows, and which it refuses: a table for the docs.

`make figures` writes it to docs/trl_arguments.md; a test holds the table, and each refusal in it, to the code.
"""

import inspect
from dataclasses import fields

import trl
from transformers import TrainingArguments

from helpers.evaluation import markdown_table
from helpers.training.arguments import UNFOLLOWED
from helpers.training.config import REFUSED
from helpers.training.orpo import ORPOConfig

MODEL_INIT = "make the model, and give it as model="
OURS = {  # where our default is another one than TRL's, and why
    "bf16": "off: spare memory only if you ask",
    "gradient_checkpointing": "off: spare memory only if you ask",
    "max_prompt_length": "no limit of its own: max_length cuts",
}


def config_arguments() -> dict[str, str]:
    """{argument: what ours does with it}, of those that TRL's ORPOConfig adds to TrainingArguments or sets anew."""
    theirs = {field.name: field.default for field in fields(trl.ORPOConfig)}
    plain = {field.name: field.default for field in fields(TrainingArguments)}
    own = [name for name, default in theirs.items() if name not in plain or default != plain[name]]
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
    names = [name for name in inspect.signature(trl.ORPOTrainer.__init__).parameters if name != "self"]
    refused = {name: "refused: the trainer computes its own loss and returns no predictions" for name in UNFOLLOWED}
    refused |= {"model_init": f"refused: {MODEL_INIT}"}
    return {name: refused.get(name, "followed") for name in names}


def table() -> str:
    """Markdown: both, with TRL's version."""
    parts = {"ORPOConfig": config_arguments(), "ORPOTrainer": trainer_arguments()}
    rows = [[f"`{name}`", part, what] for part, arguments in parts.items() for name, what in arguments.items()]
    made = markdown_table(["argument", "of", "here"], rows)
    return f"{made}\n\n*Made by `make figures` from TRL {trl.__version__} and `helpers/training/arguments.py`.*"
