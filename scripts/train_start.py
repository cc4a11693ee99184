"""Where scripts/train.py starts: at the base model, a checkpoint that it resumes, or a checkpoint's weights alone.

The last is for backends that can't resume (Optimum Neuron), and runs on every backend.
"""

import warnings
from pathlib import Path

from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from helpers.files import read_json
from helpers.runs.stage import damaged_file

LOST = "Not restored: the optimizer's moments and float32 copies of weights, random numbers, the order of the pairs"


def checkpoint_to_resume(given: str | None, folder: Path, name: str = "resume_from_checkpoint") -> str | None:
    """The checkpoint folder that an argument means: True is the last one of this run.

    Raises FileNotFoundError where there is none, ValueError for one that is cut off.
    """
    if given is None or given.lower() in ("false", "no", "0", ""):
        return None
    if given.lower() in ("true", "yes", "1"):
        given = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        if given is None:
            raise FileNotFoundError(f"{name}: {folder} has no checkpoint-* folder: leave it out to start")
    if not Path(given).is_dir() or not any(Path(given).iterdir()):
        raise FileNotFoundError(f"{name}: {given} is no checkpoint folder: name a checkpoint-N, or True")
    if cut := damaged_file(Path(given)):
        raise ValueError(f"{name}: {given} is not whole ({cut} is missing or cut off): name the checkpoint before it")
    return given


def weights_to_start_from(script, args, folder: Path) -> str | None:
    """The checkpoint that `--start_from_checkpoint` means; a ValueError where a new start would be another training."""
    name = "start_from_checkpoint"
    found = checkpoint_to_resume(script.start_from_checkpoint, folder, name)
    if found and args.resume_from_checkpoint:
        raise ValueError(f"{name} and resume_from_checkpoint are both given: leave one of them out")
    if found and script.method == "dpo":
        raise ValueError(
            f"{name}: DPO's reference is the model before the first step, which {Path(found).name} is no longer: "
            "leave it out to begin anew"
        )
    return found


def refuse_other_adapter(model, checkpoint: str, rank: int) -> None:
    """A checkpoint is gone on from with the adapter that it has, or with none if it has none."""
    found = model.peft_config["default"].r if hasattr(model, "peft_config") else 0
    if found != rank:
        has = f"has an adapter of rank {found}" if found else "has all weights and no adapter"
        raise ValueError(f"start_from_checkpoint: {Path(checkpoint).name} {has}: give lora_rank {found}, not {rank}")


class GoOn(TrainerCallback):
    """Counts on from a checkpoint's step, so that the steps that are left and the rest of the schedule follow.

    It comes after the trainer's own callbacks: with ZeRO-1 one of them gives the schedule its optimizer.
    """

    def __init__(self, trainer, checkpoint: str):
        self.trainer, self.name = trainer, Path(checkpoint).name
        self.step = read_json(Path(checkpoint) / "trainer_state.json")["global_step"]

    def on_train_begin(self, args, state, control, lr_scheduler=None, **kwargs):
        # A kill may come after the last checkpoint: then the last step is taken again
        done = state.global_step = min(self.step, state.max_steps - 1)
        # From where transformers, and NeuronTrainer, take the mean of the loss that they log
        self.trainer._globalstep_last_logged = self.trainer.global_step_last_logged = done
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimizer took no step
            for _ in range(done):
                lr_scheduler.step()
        if state.is_world_process_zero:
            left = f"{state.max_steps - done} of {state.max_steps} steps and the rest of the learning-rate schedule"
            print(f"New start from the weights of {self.name}, with {left}. {LOST}", flush=True)
