"""Live views: a callback that watches held-out log-probs while a model trains."""

import sys
import time
from contextlib import nullcontext

import torch
from IPython.display import display
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from helpers.evaluation.scores import can_chunk, score_pairs
from helpers.runs.machine import clock
from helpers.runs.progress import Pace
from helpers.show.notebook import in_notebook, validation_text
from helpers.show.recorded_training import replay, replay_speed
from helpers.show.share import SHARE, Share
from helpers.show.stop_button import stop_button
from helpers.training.stages import refuse_trained

FRAME_APART = 0.25  # seconds: a figure that moves faster is no clearer, and fills the connection to the browser


class LiveMonitor(TrainerCallback):
    """Measures chosen and rejected log-probs on a small held-out set before, during and after training.

    Each measurement goes to `stage.write_monitor`, each training log to `stage.log`. A notebook shows one figure
    that moves in place, and a stop button; a terminal shows a line a measurement. Pass `disable_tqdm=True` to the
    trainer, whose own bar would stand beside this one. Watching changes nothing in training: mode and random state
    are restored.

    It takes at most `share` of the seconds of training, drawing included. So between the two ends a measurement is
    due every `every` steps and is left out where it would take more: the log has the steps at which it was made. The
    loss and the log-probs of a step's own pairs, which the trainer has computed anyway, move at every step. With
    share=math.inf every measurement is made.

    batches: collated held-out batches; a few pairs are enough. draw: from `draw_monitor`, or None for text only.
    """

    def __init__(self, batches: list[dict], stage, every: int, draw=None, share: float = SHARE, now=time.monotonic):
        self.batches, self.stage, self.every, self.now = batches, stage, every, now
        self.draw = draw if in_notebook() else None
        self.share, self.chunked = Share(share, now), None
        self.first_step, self.pace, self.pairs_a_step, self.spent_before, self.told = 0, None, 0, 0.0, 0
        self.records, self.log, self.measured, self.cost, self.frame = [], [], None, 0.0, (0.0, 0.0)

    @property
    def seconds_spent(self) -> float:
        """Seconds of watching in this training so far."""
        return self.share.spent

    def stoppable(self, press):
        """A context in which a notebook shows a button that calls `press`; a terminal has Ctrl-C."""
        return stop_button(press) if in_notebook() else nullcontext()

    # ── what Trainer calls ──────────────────────────────────────────────────────────────────────────────────

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not state.global_step:  # one that goes on is partly trained
            refuse_trained(model)
        self.begin(state)
        self.pairs_a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        if all(record["step"] != state.global_step for record in self.records):
            self.report(state, self.measure(state, model))
            self.share.begin()
        else:
            self.show_curves(state)  # of a training that goes on

    def on_step_end(self, args, state, control, model=None, **kwargs):
        last = state.global_step == state.max_steps
        if last or (state.global_step % self.every == 0 and self.room(state) >= self.cost):
            self.measured = self.measure(state, model)
        if not control.should_log:  # else the loss of this step is told in a moment
            self.report(state, self.measured)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.log.append({"step": state.global_step} | logs)
            self.stage.log(self.log[-1])
            self.report(state, self.measured, logs["loss"])

    def on_train_end(self, args, state, control, **kwargs):
        if self.draw:
            self.draw.keep(self.records, self.log)

    # ── measuring and showing ───────────────────────────────────────────────────────────────────────────────

    def begin(self, state) -> None:
        """Read what the stage has of an earlier part of this training, and start the clocks."""
        self.share = Share(self.share.share, self.now)
        self.first_step, self.pace, self.measured, self.frame = state.global_step, None, None, (0.0, 0.0)
        self.records, self.log, self.told = self.stage.read_monitor(), self.stage.read_log(), state.global_step
        if self.draw:
            self.draw.begin()

    def room(self, state) -> float:
        """Seconds that watching may take now."""
        steps = max(state.max_steps - self.first_step, 1)
        return self.share.room((state.global_step - self.first_step) / steps, to_come=self.cost)

    def measure(self, state, model) -> dict:
        """One record: step, log-probs, log-odds difference, preference accuracy, seconds since training began."""
        before = self.share.spent
        with self.share.watching():
            random_state = torch.random.get_rng_state()
            if self.chunked is None:
                self.chunked = can_chunk(model)
            scores = score_pairs(model, self.batches, self.chunked).means()
            torch.random.set_rng_state(random_state)
        self.cost = self.share.spent - before
        names = ("chosen_logp", "rejected_logp", "log_odds_difference", "preference_accuracy")
        record = {"step": state.global_step} | {name: scores[name] for name in names}
        self.records.append(record | {"seconds": self.now() - self.share.begun})
        self.stage.write_monitor(self.records[-1])
        return record

    def measure_ends(self, base, trained, steps: int) -> None:
        """The first and the last measurement of a training that took place elsewhere, from its two models."""
        self.begin(TrainerState(global_step=0, max_steps=steps))
        for step, model in ((0, base), (steps, trained)):
            state = TrainerState(global_step=step, max_steps=steps)
            self.report(state, self.measure(state, model))

    def show_recorded(self) -> None:
        """The curves that are in the stage: at once, or where WORKSHOP_REPLAY asks for it as they were drawn."""
        if speed := replay_speed(self.stage):
            replay(self.stage, speed=speed, beside=self.draw.others if self.draw else ())
        elif self.draw:
            display(self.draw(self.stage.read_monitor()))

    def show_curves(self, state) -> None:
        """Move the figure, where there is one and there is time for it."""
        at, took = self.frame
        first = not at
        if not self.draw or not (first or (self.now() - at >= FRAME_APART and self.room(state) >= took)):
            return
        before = self.share.spent
        with self.share.watching():
            self.draw.move(self.records, self.log)
        self.frame = self.now(), self.share.spent - before

    def report(self, state, record: dict | None = None, loss: float | None = None) -> None:
        """Progress on one line that rewrites itself, below the figure; a line stays of ten or so measurements."""
        self.measured = None
        at, steps = state.global_step, state.max_steps
        if 0 < at - self.told < 0.1 * steps and at < steps:
            record = None
        if self.pace is None:  # the first measurement is done: what follows are steps
            self.pace = Pace("step", state.global_step, state.max_steps, self.now)
            self.spent_before = self.seconds_spent
        self.pace.reach(state.global_step)
        line = f"step {state.global_step}/{state.max_steps}  {clock(self.now() - self.share.begun)} gone"
        if left := self.pace.left():
            line += f", {clock(left)} left"
        if not record and (rate := self.pairs_a_second()):  # a measurement stays, and its line is long enough
            line += f", {rate:.1f} pairs/s"
        if not record and loss is not None:
            line += f", loss {loss:.2f}"
        if record:
            line += f"  {validation_text(record)}\n"
            self.told = state.global_step
        self.show_curves(state)
        sys.stdout.write(f"\r{line:<70}")
        sys.stdout.flush()

    def pairs_a_second(self) -> float:
        """How fast it trains, the measurements taken out; 0 where no step was timed yet."""
        seconds = self.pace.at - self.pace.since - (self.seconds_spent - self.spent_before)
        return self.pairs_a_step * (self.pace.done - self.pace.first) / seconds if seconds > 0 else 0.0
