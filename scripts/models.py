"""Which model classes ORPOTrainer trains in the shared row, which in two rows a pair, and what of each was tried.

`make figures` writes the table to docs/models.md, and `python -m scripts.models` that of another environment's
transformers. Two tests hold the page to the code, and the loss and gradients of each class to what the page says:
tests/training/test_models.py and test_model_options.py.
"""

import warnings

import transformers

from helpers.evaluation import markdown_table
from helpers.files import REPOSITORY
from helpers.objective.chunked_logprobs import chunking_obstacle
from helpers.training.layout_check import shared_row_obstacle
from helpers.training.policy import refuse_model
from scripts.pages import fill
from scripts.tiny_models import FLOAT32, IGNORES_CHECKPOINTING, LONGEST, LORA_ON, NO_BF16, PAIRS, available, tiny_model


def layout_and_logits(name: str) -> tuple[str, str]:
    """What the trainer does with a model: the layout and why not the shared row; which logits it makes, and why."""
    model = tiny_model(name)
    try:
        refuse_model(model)
    except ValueError as error:
        return f"refused: {error}", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of slow paths
        reason, heads = shared_row_obstacle(model, [PAIRS], LONGEST), chunking_obstacle(model)
    if reason:
        kept, failed, _ = reason.partition(" failed on it")  # in torch's words, which its releases change
        reason = f"two rows: {kept}{failed}"
    return reason or "shared row", f"all: {heads}" if heads else "a block at a time"


def tried(name: str) -> tuple[str, str]:
    """In which numbers a class was compared with each answer alone; what it lacks of LoRA, checkpointing and bf16.

    The tests try just this.
    """
    lacks = [f"LoRA on {', '.join(LORA_ON[name])}"] if name in LORA_ON else []
    if not tiny_model(name).supports_gradient_checkpointing:
        lacks.append("no checkpointing: it has none")
    lacks += ["it ignores checkpointing"] if name in IGNORES_CHECKPOINTING else []
    lacks += ["no bf16: it fails under autocast"] if name in NO_BF16 else []
    return "float32" if name in FLOAT32 else "float64, float32", "; ".join(lacks) or "yes"


def table() -> str:
    """Markdown: every class that this transformers has."""
    head, rows = ["model", "class", "layout", "logits", "compared in", "LoRA, checkpointing, bf16 at once"], []
    for name in available():
        layout, logits = layout_and_logits(name)
        rest = ("", "") if layout.startswith("refused") else tried(name)
        rows.append([name, f"`{type(tiny_model(name)).__name__}`", layout, logits, *rest])
    return f"transformers {transformers.__version__}:\n\n{markdown_table(head, rows)}"


def section() -> str:
    """The part of the page that is this transformers'."""
    return f"transformers {transformers.__version__.partition('.')[0]}"


if __name__ == "__main__":
    fill(REPOSITORY / "docs" / "models.md", {section(): table()})
