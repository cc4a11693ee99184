"""A recorded training drawn again in the live figure, at a chosen speed, with neither a model nor a network."""

import time

from IPython.display import display

from helpers.runs.recorded import recorded_runs, when_recorded
from helpers.show.notebook import figure_image, in_notebook, validation_text
from helpers.show.run_plots import plot_monitor
from helpers.show.style import stamp

ALT = "Log-probs of chosen and rejected answers of the validation pairs in a recorded training"


def replay(recorded=None, method: str = "orpo", speed: float = 20.0, wait=time.sleep) -> None:
    """Draw a recorded training measurement by measurement, `speed` times as fast as it was; ■ jumps to its end.

    recorded: a stage of a run of yours, or a record of docs/results/ with its `method`; without it the first recorded
    laptop run. The figure says on which machine and when it was recorded. A terminal shows lines.
    """
    if not speed > 0:
        raise ValueError(f"speed is {speed}: give a number above 0, such as 20")
    name, records, faint, losses, label = what_was_recorded(recorded, method)
    show = Frames(name, faint, losses, label) if in_notebook() else print_last
    before = records[0].get("seconds", 0.0)
    for number, record in enumerate(records, start=1):
        at = record.get("seconds", before)
        try:
            wait(max(0.0, at - before) / speed)  # the seconds of a training that was gone on with begin again
        except KeyboardInterrupt:
            show(records)
            break
        show(records[:number])
        before = at
    if not in_notebook():
        print(label)


class Frames:
    """One figure that updates in place."""

    def __init__(self, name: str, faint: dict, losses: dict | None, label: str):
        self.name, self.faint, self.losses, self.label, self.handle = name, faint, losses, label, None

    def __call__(self, records: list[dict]) -> None:
        losses, last = self.losses, records[-1]["step"]
        if losses:
            losses = losses | {self.name: [each for each in losses.get(self.name, []) if each["step"] <= last]}
        figure = plot_monitor(self.faint | {self.name: records}, faint=tuple(self.faint), losses=losses)
        image = figure_image(stamp(figure, self.label), ALT)
        if self.handle is None:
            self.handle = display(image, display_id=True)
        else:
            self.handle.update(image)


def print_last(records: list[dict]) -> None:
    """The newest measurement, for a terminal."""
    print(f"step {records[-1]['step']}  {validation_text(records[-1])}")


def what_was_recorded(recorded, method: str) -> tuple[str, list[dict], dict, dict | None, str]:
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
        name, records, about, faint = recorded.name, recorded.read_monitor(), recorded.run.results, {}
        losses = {name: list(recorded.read_log())}
    if not records:
        raise ValueError(f"{name} has no measurements yet: run the cell that trains it first")
    return name, records, faint, losses, when_recorded(about)
