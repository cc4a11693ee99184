"""What scripts/train.py leaves in the run folder: its log, the model, and what the notebooks read of a stage."""

import json
import os
import time
from pathlib import Path

from helpers.files import replaced_whole
from helpers.neuron.compile_cache.watch import compiled_graphs
from helpers.runs import Run, peak_memory_bytes
from helpers.runs.folder import place_of
from helpers.training.callbacks import StepLog
from helpers.training.recipe import copies_of, pairs_of_a_step, summary_of


class JsonLines(StepLog):
    """A line of JSON on the terminal and in the run folder for every logged step; and how long training took."""

    def __init__(self, stage, counts_graphs: bool):
        super().__init__(stage)
        self.counts_graphs, self.first_step, self.seconds = counts_graphs, 0, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.first_step, self.began = state.global_step, time.monotonic()
        if state.is_world_process_zero:
            self.stage.go_on_from(state.global_step)
            (self.stage.path / "settings.json").unlink(missing_ok=True)  # of a notebook's training, which this is not

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds = time.monotonic() - self.began

    def extend(self, record: dict) -> dict:
        return record | ({"graphs": compiled_graphs()} if self.counts_graphs else {})

    def show(self, record: dict, state) -> None:
        print(json.dumps(record), flush=True)


def finish(script, backend, trainer, run: Run) -> None:
    """Save the model where SageMaker looks for it (SM_MODEL_DIR), else in the run folder; note what was done."""
    if not trainer.state.global_step:
        raise ValueError("no step was taken: there are fewer pairs than a batch holds, or resuming began at the end")
    stage = run.stage(script.method)
    folder = Path(os.environ.get("SM_MODEL_DIR", stage.model_path))
    with replaced_whole(folder, trainer.is_world_process_zero()) as making:
        backend.save_model(trainer, str(making))
    if trainer.is_world_process_zero():
        losses, steps = [record["loss"] for record in stage.read_log()], trainer.state.global_step
        settings, training = settings_of(script, trainer), training_of(trainer)
        summary = training | {"method": script.method, "seed": trainer.args.seed, "settings": settings}
        summary |= {"first_loss": losses[0], "last_loss": losses[-1]} if losses else {}
        run.measure_machine()  # an earlier run may have left its own
        stage.write_file("settings.json", settings)
        stage.write_file("training.json", training)  # last: without it the model counts as half-written
        stage.finish(summary | {"peak_memory_bytes": peak_memory_bytes()})
        change = f", loss {losses[0]:.4f} → {losses[-1]:.4f}" if losses else ""
        print(f"Trained {steps} steps{change}; the model is in {folder.name}/")


def settings_of(script, trainer) -> dict:
    """The settings of a stage by the names that a notebook gives them (`helpers.training.recipe.stage_settings`)."""
    args = trainer.args
    beta = {} if script.method == "sft" else {"beta": args.beta}
    return {
        "method": script.method,
        "source": place_of(script.data),
        "bf16": bool(args.bf16),
        "model": script.model,
        "train_pairs": script.pairs or len(trainer.train_dataset),
        "max_length": args.max_length,
        "steps": trainer.state.max_steps,
        "pairs_per_step": pairs_of_a_step(args) * copies_of(args),
        "learning_rate": args.learning_rate,
        "lora_rank": script.lora_rank,
        "seed": args.seed,
    } | beta


def training_of(trainer) -> dict:
    """What the training took, as a notebook's stage has it in training.json."""
    (log,) = (each for each in trainer.callback_handler.callbacks if isinstance(each, JsonLines))
    return summary_of(trainer, log.seconds, log.first_step)
