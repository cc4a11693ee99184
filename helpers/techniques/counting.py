"""Training that is timed and counted: seconds, and the positions that went through each model."""

import time

import torch
from transformers import TrainerCallback

from helpers.runs.machine import peak_memory_bytes


def train_and_count(trainer, monitor=None) -> dict:
    """Train; returns steps, seconds (live measurements taken out), and the positions that went through each model.

    `forward_tokens` are those without a gradient: a reference's, a reward model's, a generation's, with the trainer's
    own `forward_tokens` where its making took some. `trained_tokens` went forward and backward. Padding counts: the
    machine computes it.
    """
    counters = [TokenCounter(trainer.model, monitored=monitor is not None)]
    counters += [TokenCounter(model) for model in getattr(trainer, "reward_funcs", [])]
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - (monitor.seconds_spent if monitor else 0)
    for counter in counters:
        counter.remove()
    trained = sum(counter.trained for counter in counters)
    return {
        "steps": trainer.state.global_step,
        "train_seconds": seconds,
        "train_tokens_per_second": trained / seconds,
        "peak_memory_bytes": peak_memory_bytes(),  # of this process so far; `measure` tells the techniques apart
        "trained_tokens": trained,
        "forward_tokens": sum(counter.forward for counter in counters) + getattr(trainer, "forward_tokens", 0),
        "layout": getattr(trainer.args, "layout", "rows"),
        "precision": "bf16 autocast" if trainer.args.bf16 else "float32",
    }


class TokenCounter:
    """Counts the positions that pass a model's embedding, with and without a gradient.

    Of a `monitored` model those in inference mode are left out: they are the monitor's.
    """

    def __init__(self, model, monitored: bool = False):
        self.trained, self.forward, self.monitored = 0, 0, monitored
        self._handle = model.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, module, inputs) -> None:
        if torch.is_grad_enabled():
            self.trained += inputs[0].numel()
        elif not (self.monitored and torch.is_inference_mode_enabled()):
            self.forward += inputs[0].numel()

    def remove(self) -> None:
        self._handle.remove()


class LogTo(TrainerCallback):
    """Writes what the trainer logs to a stage, for a stage that no LiveMonitor watches."""

    def __init__(self, stage):
        self.stage = stage

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.stage.log({"step": state.global_step} | logs)
            print(f"\rstep {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}", end="", flush=True)

    def on_train_end(self, args, state, control, **kwargs):
        print()


class StopAfter(TrainerCallback):
    """Ends training after so many seconds, those of the monitor not counted."""

    def __init__(self, seconds: float, monitor=None):
        self.seconds, self.monitor = seconds, monitor

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        spent = self.monitor.seconds_spent if self.monitor else 0
        control.should_training_stop = time.perf_counter() - self.started - spent >= self.seconds
