"""A recorded training drawn again in the live figure, at a chosen speed, with neither a model nor a network."""

import os
import time

import numpy as np

from helpers.runs.recorded import recorded_runs, when_recorded
from helpers.show.live_figure import LiveFigure
from helpers.show.monitor_panels import monitor_panels
from helpers.show.notebook import figure_image, in_notebook, validation_text
from helpers.show.run_plots import plot_monitor
from helpers.show.style import stamp

ALT = "Log-probs of chosen and rejected answers of the validation pairs in a recorded training"
LONGEST = 15  # seconds that WORKSHOP_REPLAY takes to draw a training again


def replay(recorded=None, method: str = "orpo", speed: float = 20.0, wait=time.sleep, beside=()) -> None:
    """Draw a recorded training step by step, `speed` times as fast as it was; ■ jumps to its end.

    recorded: a stage of a run of yours, or a record of docs/results/ with its `method`; without it the first recorded
    laptop run. beside: stages to draw paler beside one of yours. The figure says on which machine and when it was
    recorded. A terminal shows lines.
    """
    if not speed > 0:
        raise ValueError(f"speed is {speed}: give a number above 0, such as 20")
    name, records, faint, losses, label = what_was_recorded(recorded, method, beside)
    show = Frames(name, records, faint, losses, label) if in_notebook() else Lines(records)
    before = records[0].get("seconds", 0.0)
    for step, at in moments(records, (losses or {}).get(name, [])):
        try:
            wait(max(0.0, at - before) / speed)  # the seconds of a training that was gone on with begin again
        except KeyboardInterrupt:
            break
        show(step)
        before = at
    show.end()
    if not in_notebook():
        print(label)


def replay_speed(stage) -> float:
    """How fast a finished training is drawn again where WORKSHOP_REPLAY=1 asks for that; 0 where nothing does.

    25 times as fast as it was, and faster where that would take more than LONGEST seconds.
    """
    asked = os.environ.get("WORKSHOP_REPLAY", "")
    if asked not in ("", "0", "1"):
        raise ValueError(f"WORKSHOP_REPLAY is {asked!r}: give 1 to see finished trainings drawn again, or 0")
    return max(25.0, stage.read_monitor()[-1].get("seconds", 0.0) / LONGEST) if asked == "1" else 0.0


def moments(records: list[dict], losses: list[dict]) -> list[tuple[int, float]]:
    """(step, seconds since the training began) of each measurement and each loss; between measurements evenly."""
    known, seconds = [record["step"] for record in records], [record.get("seconds", 0.0) for record in records]
    steps = sorted({*known, *(line["step"] for line in losses if known[0] <= line["step"] <= known[-1])})
    return list(zip(steps, np.interp(steps, known, seconds).tolist(), strict=True))


class Frames:
    """One figure that moves in place, and the picture of its end."""

    def __init__(self, name: str, records: list[dict], faint: dict, losses: dict | None, label: str):
        self.name, self.records, self.faint, self.losses, self.label = name, records, faint, losses, label
        self.figure = LiveFigure(f"{ALT}, {label}")

    def __call__(self, step: int) -> None:
        self.figure.move(monitor_panels(*self.until(step)), self.label)

    def end(self) -> None:
        figure = plot_monitor(*self.until(self.records[-1]["step"]))
        self.figure.keep(figure_image(stamp(figure, self.label), self.figure.alt))

    def until(self, step: int) -> tuple[dict, tuple, dict | None]:
        """What `monitor_panels` takes, as it was at a step."""
        losses = self.losses
        if losses:
            losses = losses | {self.name: [line for line in losses.get(self.name, []) if line["step"] <= step]}
        records = [record for record in self.records if record["step"] <= step]
        return self.faint | {self.name: records}, tuple(self.faint), losses


class Lines:
    """A line a measurement, for a terminal."""

    def __init__(self, records: list[dict]):
        self.records = {record["step"]: record for record in records}

    def __call__(self, step: int) -> None:
        if step in self.records:
            print(f"step {step}  {validation_text(self.records.pop(step))}")

    def end(self) -> None:
        """The last measurement, if nobody waited for it."""
        if self.records:
            self(max(self.records))


def what_was_recorded(recorded, method: str, beside=()) -> tuple[str, list[dict], dict, dict | None, str]:
    """(stage, its measurements, {method: measurements} to draw paler, {method: losses} if kept, where all are from)."""
    if recorded is None:
        recorded = recorded_runs("laptop")[0]
    if isinstance(recorded, dict):
        monitors = recorded["monitor"]
        if method not in monitors:
            raise ValueError(f"method {method!r} is not recorded: choose one of {', '.join(monitors)}")
        name, records, about = method, monitors[method], recorded
        earlier = list(monitors)[: list(monitors).index(method)]  # as notebook 04 draws SFT beside ORPO
        faint, losses = {other: monitors[other] for other in earlier}, recorded.get("losses")
    else:
        name, records, about = recorded.name, recorded.read_monitor(), recorded.run.results
        faint = {other.name: other.read_monitor() for other in beside if other.name != name and other.read_monitor()}
        losses = {stage.name: list(stage.read_log()) for stage in (*beside, recorded)}
    if not records:
        raise ValueError(f"{name} has no measurements yet: run the cell that trains it first")
    return name, records, faint, losses, when_recorded(about)
