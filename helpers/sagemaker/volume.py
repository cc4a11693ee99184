"""How large a volume a job needs: reckoned from its model's sizes, with everything that is assumed."""

import math

from helpers.training.base_model import HUB_TWIN, MADE, PACKAGED
from helpers.training.sizes import sizes_of
from helpers.training.step_memory import BFLOAT16

UNKNOWN = 64  # GB, where the model's sizes are not known here
LEAST = 32  # GB
PACKAGES = 16  # GB: what pip installs, code, pairs and the compile cache; assumed
MARGIN = 1.2
CHECKPOINTS = 5  # of a job whose number of steps is not known here
SAVE_STEPS = 500  # of transformers and Optimum Neuron


def needed_gb(hyperparameters: dict) -> tuple[int, str]:
    """(GB, how that is reckoned): downloaded weights, checkpoints with the optimizer, the model as it is saved.

    A checkpoint's weights are there a second time where they are joined for a new start, and so are the model's.
    """
    name = str(hyperparameters.get("model", PACKAGED))
    try:
        sizes = sizes_of(HUB_TWIN if name in (PACKAGED, *MADE) else name)
    except (ValueError, OSError):
        return UNKNOWN, f"the sizes of {name} are not known here; give volume_gb= for a large one"
    rank = int(hyperparameters.get("lora_rank", 0))
    trained = sizes.lora(rank) if rank else sizes.parameters
    checkpoint, kept = trained * (2 * BFLOAT16.weight + BFLOAT16.optimizer), kept_at_once(hyperparameters)
    saved = 2 * trained * BFLOAT16.weight
    number = "1 checkpoint" if kept == 1 else f"{kept} checkpoints"
    files = {"downloaded weights": sizes.parameters * BFLOAT16.weight, number: kept * checkpoint, "saved model": saved}
    files["packages and data (assumed)"] = PACKAGES * 1e9
    gb = max(LEAST, math.ceil(sum(files.values()) / 1e9 * MARGIN))
    parts = " + ".join(f"{part} {size / 1e9:.{1 if size >= 1e8 else 2}f}" for part, size in files.items())
    return gb, f"{parts} GB, and a fifth more; at least {LEAST} GB"


def kept_at_once(hyperparameters: dict) -> int:
    """Checkpoints on the volume at the same time: a new one is written before the oldest is deleted."""
    steps, every = int(hyperparameters.get("max_steps", 0)), float(hyperparameters.get("save_steps", SAVE_STEPS))
    every = max(1, round(every * steps)) if every < 1 else every  # transformers takes a share of all steps, too
    made = max(1, math.ceil(steps / every)) if steps > 0 else CHECKPOINTS
    limit = int(hyperparameters.get("save_total_limit") or 0)
    return min(made, limit + 1) if limit > 0 else made
