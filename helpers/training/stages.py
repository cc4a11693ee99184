"""A notebook's training in the stage of its settings: begun, stopped, gone on with, and its model read back."""

import copy
import signal
import threading
from contextlib import contextmanager

from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import TrainerState

from helpers.files import read_json, refused, replaced_whole
from helpers.runs.memory import release_memory
from helpers.runs.stage import refuse_cut
from helpers.runs.told import Refused, RunFirst, Stopped
from helpers.training.autocast import adapters_cast_once, round_frozen
from helpers.training.base_model import find_base_model, is_adapter, load_model
from helpers.training.draws import draw_as_a_whole_run
from helpers.training.recipe import pairs_of_a_step, stage_settings, training_device, training_summary

SETTINGS_OF_A_TRAINER = {  # setting of a stage: argument of a trainer
    "learning_rate": "learning_rate",
    "steps": "max_steps",
    "pairs_per_step": "per_device_train_batch_size",
    "max_length": "max_length",
    "beta": "beta",
    "bf16": "bf16",
    "seed": "seed",
}


def find_stage(run, profile, method: str):
    """The stage of a method with this profile's settings; one line says what is there. Nothing is written.

    Other settings are another stage: the one that is there stays, and the two can be compared.
    """
    settings = stage_settings(profile, run, method)
    stage = run.stage_for(method, settings)
    print(stage)
    if stage.name != method:
        changed = run.stage(method).differences(settings).items()
        told = ", ".join(f"{name} {ours} in place of {theirs}" for name, (theirs, ours) in changed)
        print(f"It stands beside {method}, which stays as it is: {told}.")
    return stage


def train_stage(trainer, stage, monitor) -> None:
    """Train to the last step, from the stage's checkpoint if it was stopped, else from the base; save the model there.

    A stage that is trained is left as it is, and its curves are shown; where a job trained it, which draws none, their
    two ends are measured. Once all steps are done the trainer's model is given back: what follows reads the saved one,
    and two would be in memory. Jupyter's stop button, or the monitor's, ends training after the step that it is in, and
    keeps a checkpoint and the model; the Stopped that follows says so.
    """
    refuse_other_settings(trainer, stage)
    if stage.trained:
        if not stage.read_monitor():
            monitor.measure_ends(trainer.model, model_in(stage), stage.steps_wanted)
        monitor.show_recorded()
        print(f"{stage.path.name} is trained already ({stage.steps_wanted} steps): nothing to do")
        return
    if stage.last_checkpoint() is None or stage.differences(stage.settings):
        refuse_trained(trainer.model)
    stop = StopButton()
    trainer.remove_callback(PrinterCallback)  # the monitor reports instead
    trainer.add_callback(stop)
    try:
        with stop.listening(), monitor.stoppable(stop.ask):
            take_steps(trainer, stage)
            forget_optimizer(trainer)  # before the model is saved, which takes a copy
            save_trained(trainer, stage, training_summary(trainer, monitor))
    except KeyboardInterrupt:
        raise Stopped(f"{stage} (stopped within a step). {how_to_go_on(stage)}") from None
    except Exception as error:
        if said := refused(error, stage.path, "set WORKSHOP_RUNS to a folder elsewhere"):
            raise Refused(f"{said}. {how_to_go_on(stage)}") from error
        raise
    finally:
        trainer.remove_callback(stop)
        forget_optimizer(trainer)
    if stop.pressed:
        raise Stopped(f"{stage}. {how_to_go_on(stage)} The next cell reads the model.")
    print(f"{trainer.state.global_step} steps; the model is in {stage.path.name}/{stage.model_path.name}")
    give_model_back(trainer, stage)


def forget_optimizer(trainer) -> None:
    """Free what only the next step would need; a checkpoint has it for whoever goes on."""
    trainer.optimizer, trainer.lr_scheduler = None, None
    release_memory()


class GivenBack:
    """Stands where a trainer's model was; whoever asks it for anything is told where the model is."""

    trained_as = ""

    def __init__(self, stage):
        self.trained_as = stage.name

    def __getattr__(self, name: str):
        raise Gone(
            f"this trainer gave its model back when {self.trained_as} was trained, for the memory: load_trained(stage) "
            "reads it; to train again, run the trainer's cell first"
        )


class Gone(Refused, AttributeError):
    """An attribute of a model that was given back."""


def give_model_back(trainer, stage) -> None:
    """Let go of the model wherever the trainer keeps it; who else has a name for it keeps it."""
    trainer.model = trainer.model_wrapped = GivenBack(stage)
    trainer.callback_handler.model = None
    trainer.accelerator.free_memory()
    release_memory()


def how_to_go_on(stage) -> str:
    """In a sentence; "" where nothing is left to do."""
    if stage.trained:
        return ""
    if stage.last_checkpoint():
        return "Run this cell again: it goes on from there."
    return "Run the trainer's cell again, then this one: it starts from the base model."


def take_steps(trainer, stage) -> None:
    """Take the steps that the stage lacks, from its checkpoint or from the base."""
    step = stage.start(stage.settings)
    checkpoint = stage.last_checkpoint()
    try:
        if step < trainer.args.max_steps:
            round_frozen(trainer)
            draw_as_a_whole_run(trainer)
            with adapters_cast_once(trainer):
                trainer.train(resume_from_checkpoint=checkpoint)
        else:  # a kill came after the last checkpoint, and Trainer would make one step more
            trainer._load_from_checkpoint(checkpoint)
            trainer.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
    finally:
        mark_as_trained(trainer.model, stage.name)


class StopButton(TrainerCallback):
    """Turns an interrupt into the end of training after the step at work, with a checkpoint of that very step.

    A second interrupt does not wait for the step.
    """

    def __init__(self):
        self.pressed = False

    def press(self, *signal_and_frame) -> None:
        """Ask for the end; a KeyboardInterrupt if that was asked for before."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def ask(self) -> None:
        """The same from a button: its clicks come from another thread, and a second one changes nothing."""
        self.pressed = True

    @contextmanager
    def listening(self):
        """Listen to the interrupts of a `with` block; Python brings them to the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self.press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_end(self, args, state, control, **kwargs):
        if self.pressed:
            control.should_save = control.should_training_stop = True


def save_trained(trainer, stage, summary: dict) -> None:
    """Save the model, an adapter's matrices added to the base's, so that it is an ordinary model; then what it took.

    A copy is merged: the trainer's own can go on.
    """
    model = trainer.model
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).float().merge_and_unload()
    with replaced_whole(stage.model_path) as folder:
        model.save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)
    stage.write_file("training.json", summary)  # last: without it the model counts as half-written


def load_trained(stage):
    """The model that a stage trained, from its folder; a FileNotFoundError says to train it first."""
    if not stage.training:
        raise RunFirst(f"{stage.path.name} has no trained model yet: run the cell that trains it first")
    print(f"{stage}; its model is in {stage.path.relative_to(stage.run.path.parent)}/{stage.model_path.name}")
    refuse_cut(stage.model_path, f"delete the folder {stage.path}, then train again")
    model = model_in(stage).to(training_device())
    mark_as_trained(model, stage.name)
    return model


def model_in(stage):
    """The model in a stage's folder. An adapter, which scripts/train.py saves, goes on the base of its settings."""
    folder, base = str(stage.model_path), read_json(stage.path / "settings.json", {}).get("model")
    return load_model(folder, base=find_base_model(base)[0] if base and is_adapter(folder) else None)


# ── what would spoil a stage is refused ─────────────────────────────────────────────────────────────────────


def mark_as_trained(model, name: str) -> None:
    """Note on a model that it is no longer the base."""
    _innermost(model).trained_as = name


def trained_as(model) -> str | None:
    """The stage that a model was trained as; None for a base."""
    return getattr(_innermost(model), "trained_as", None)


def _innermost(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def refuse_trained(model) -> None:
    """Raise a RuntimeError for a model that was trained here: each method starts from the base."""
    if name := trained_as(model):
        raise Refused(
            f"this model was trained already, as {name}: run the trainer's cell again, it loads the base anew"
        )


def refuse_other_settings(trainer, stage) -> None:
    """Raise a RuntimeError for a trainer whose arguments are not those that the stage is named by."""
    for name, argument in SETTINGS_OF_A_TRAINER.items():
        wanted, found = stage.settings.get(name), getattr(trainer.args, argument, None)
        if name == "pairs_per_step" and found is not None:
            found = pairs_of_a_step(trainer.args)
        if name in stage.settings and found is not None and found != wanted:
            raise Refused(
                f"the trainer has {argument}={found}, the stage {stage.path.name} has {name} {wanted}: set profile = "
                f"replace(profile, {name}={found}), then run the stage's cell and the trainer's again"
            )
