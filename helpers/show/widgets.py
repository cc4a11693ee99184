"""Live views: a callback that watches held-out log-probs while a model trains."""

import sys
import time
from contextlib import nullcontext

import torch
from IPython.display import display
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from helpers.evaluation.scores import measure_pairs
from helpers.runs.machine import clock
from helpers.runs.progress import Pace
from helpers.show.notebook import in_notebook, validation_text
from helpers.show.stop_button import stop_button
from helpers.training.stages import refuse_trained


class LiveMonitor(TrainerCallback):
    """Measures chosen and rejected log-probs on a small held-out set before, during and after training.

    Each measurement goes to `stage.write_monitor`, each training log to `stage.log`. A notebook shows one figure
    that updates in place, and a stop button; a terminal shows a line a measurement. Pass `disable_tqdm=True` to the
    trainer, whose own bar would stand beside this one. Measuring changes nothing in training: mode and random state
    are restored.

    batches: collated held-out batches. draw: records → (image, …) to show, or None for text only.
    """

    def __init__(self, batches: list[dict], stage, every: int, draw=None):
        self.batches, self.stage, self.every = batches, stage, every
        self.draw = draw if in_notebook() else None
        self.seconds_spent, self.first_step, self.display, self.pace = 0.0, 0, None, None
        self.pairs_a_step, self.spent_before = 0, 0.0

    def stoppable(self, press):
        """A context in which a notebook shows a button that calls `press`; a terminal has Ctrl-C."""
        return stop_button(press) if in_notebook() else nullcontext()

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not state.global_step:  # one that goes on is partly trained
            refuse_trained(model)
        self.started, self.first_step, self.seconds_spent = time.monotonic(), state.global_step, 0.0
        self.pace, self.display = None, None
        self.pairs_a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        if any(record["step"] == state.global_step for record in self.stage.read_monitor()):
            self.show_curves()  # of a training that goes on
        else:
            self.measure(state, model)

    def measure_ends(self, base, trained, steps: int) -> None:
        """The first and the last measurement of a training that took place elsewhere, from its two models."""
        self.started, self.pace = time.monotonic(), None
        for step, model in ((0, base), (steps, trained)):
            self.measure(TrainerState(global_step=step, max_steps=steps), model)

    def show_recorded(self) -> None:
        """The curves that are in the stage."""
        if self.draw:
            display(self.draw(self.stage.read_monitor()))

    def show_curves(self) -> None:
        """The figure of this training, or its next state in the same place."""
        if not self.draw:
            return
        image = self.draw(self.stage.read_monitor())
        if self.display is None:
            self.display = display(image, display_id=True)
        else:
            self.display.update(image)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.measure(state, model)
        else:
            self.report(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.stage.log({"step": state.global_step} | logs)

    def measure(self, state, model) -> None:
        """One record: step, log-probs, log-odds difference, preference accuracy, seconds since training began."""
        before, random_state = time.monotonic(), torch.random.get_rng_state()
        scores = measure_pairs(model, self.batches).summary()
        torch.random.set_rng_state(random_state)
        self.seconds_spent += time.monotonic() - before
        names = ("chosen_logp", "rejected_logp", "log_odds_difference", "preference_accuracy")
        record = {"step": state.global_step} | {name: scores[name] for name in names}
        self.stage.write_monitor(record | {"seconds": time.monotonic() - self.started})
        self.report(state, record)

    def report(self, state, record: dict | None = None) -> None:
        """Progress on one line that rewrites itself; a measurement stays, and updates the figure above the lines."""
        if self.pace is None:  # the first measurement is done: what follows are steps
            self.pace = Pace("step", state.global_step, state.max_steps)
            self.spent_before = self.seconds_spent
        self.pace.reach(state.global_step)
        line = f"step {state.global_step}/{state.max_steps}  {clock(time.monotonic() - self.started)} gone"
        if left := self.pace.left():
            line += f", {clock(left)} left"
        if not record and (rate := self.pairs_a_second()):  # a measurement stays, and its line is long enough
            line += f", {rate:.1f} pairs/s"
        if record:
            line += f"  {validation_text(record)}\n"
        if record:
            self.show_curves()
        sys.stdout.write(f"\r{line:<60}")
        sys.stdout.flush()

    def pairs_a_second(self) -> float:
        """How fast it trains, the measurements taken out; 0 where no step was timed yet."""
        seconds = self.pace.at - self.pace.since - (self.seconds_spent - self.spent_before)
        return self.pairs_a_step * (self.pace.done - self.pace.first) / seconds if seconds > 0 else 0.0
