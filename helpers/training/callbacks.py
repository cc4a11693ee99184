"""What is written down at every logged step, whoever trains."""

from transformers import ProgressCallback, TrainerCallback

from helpers.runs import progress


class StepLog(TrainerCallback):
    """Writes each logged step that has a loss to the stage's log, on the first process alone.

    A subclass may add to the record (`extend`) and show it (`show`).
    """

    def __init__(self, stage):
        self.stage = stage

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and "loss" in logs:
            record = self.extend({"step": state.global_step} | logs)
            self.stage.log(record)
            self.show(record, state)

    def extend(self, record: dict) -> dict:
        """The record to write."""
        return record

    def show(self, record: dict, state) -> None:
        """Tell people about it; nothing by default."""


class Bar(ProgressCallback):
    """transformers' progress bar with our time left, and without its log lines, which StepLog writes."""

    def on_train_begin(self, args, state, control, **kwargs):
        """A bar of steps, from where a training goes on."""
        if state.is_world_process_zero:
            self.training_bar = progress.Bar(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)
        self.current_step = state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Nothing: the bar alone."""
