"""What is drawn of a training: panels of curves, as a picture (run_plots) and as it moves (live_figure)."""

from dataclasses import dataclass, field

import numpy as np

from helpers.data.schema import SIDES
from helpers.evaluation.methods import look
from helpers.show.style import SIDE_LINE

THIN = {"marker": "", "linewidth": 1.0, "alpha": 0.35}  # a step's own pairs: other pairs at each step, so a noisy line


@dataclass
class Curve:
    """One line over optimizer steps. style: matplotlib's arguments; a label that starts with "_" is not shown."""

    label: str
    steps: list[int]
    values: list[float]
    style: dict


@dataclass
class Panel:
    """A title, what the vertical axis measures, and curves."""

    title: str
    measures: str
    curves: list[Curve] = field(default_factory=list)


def monitor_panels(
    records_by_method: dict[str, list[dict]], faint: tuple = (), losses: dict | None = None
) -> list[Panel]:
    """Log-probs of validation pairs and their margin while training, and the training loss where `losses` are given.

    records_by_method: {method: records with `step`, `chosen_logp`, `rejected_logp`}. faint: methods drawn paler.
    losses: {method: lines of its log, with `step` and `loss`}. Where a method that is not faint logs the log-probs of
    the pairs of each step, which TRL calls `logps/chosen` and `logps/rejected`, they are thin lines beside the others.
    """
    logps = Panel("Log-probs of validation pairs", "log-prob per token (nats)")
    margins = Panel("Margin between right and wrong", "chosen − rejected (nats)")
    for method in (method for method in records_by_method if method not in faint):
        own = [line for line in (losses or {}).get(method, []) if "logps/chosen" in line]
        _add_pairs_of_steps(logps, margins, method, own)
    for method, records in records_by_method.items():
        steps = [record["step"] for record in records]
        label, style = look(method).label, look(method).points | {"alpha": 0.4 if method in faint else 1}
        values = {side: [record[f"{side}_logp"] for record in records] for side in SIDES}
        for side, shape in (("chosen", {}), ("rejected", {"markerfacecolor": "white"})):
            drawn = {"linestyle": SIDE_LINE[side]} | style | shape
            logps.curves.append(Curve(f"{label} {side}", steps, values[side], drawn))
        margin = list(np.subtract(values["chosen"], values["rejected"]))
        margins.curves.append(Curve(label, steps, margin, {"linestyle": "-"} | style))
    if losses is None:
        return [logps, margins]
    return [logps, margins, _losses({method: losses.get(method, []) for method in records_by_method}, faint)]


def last_step(panels: list[Panel]) -> int:
    """The last step of any curve; 1 where there is none yet."""
    return max([step for panel in panels for curve in panel.curves for step in curve.steps] + [1])


def _add_pairs_of_steps(logps: Panel, margins: Panel, method: str, log: list[dict]) -> None:
    """The log-probs of the pairs of each step, taken before the step: in a first epoch nothing was trained on them."""
    if not log:
        return
    steps, style = [line["step"] for line in log], {"color": look(method).colour} | THIN
    values = {side: [line[f"logps/{side}"] for line in log] for side in SIDES}
    for side in SIDES:
        logps.curves.append(Curve(f"_{method} {side}", steps, values[side], {"linestyle": SIDE_LINE[side]} | style))
    margin = list(np.subtract(values["chosen"], values["rejected"]))
    margins.curves.append(Curve(f"_{method}", steps, margin, {"linestyle": "-"} | style))


def _losses(losses: dict[str, list[dict]], faint: tuple) -> Panel:
    """What each method minimises, step by step, with its marker at the end."""
    panel = Panel("Training loss", "loss (nats)")
    for method, lines in losses.items():
        values = [(line["step"], line["loss"]) for line in lines if "loss" in line]
        if values:
            style = look(method).points | {"alpha": 0.4 if method in faint else 1, "linewidth": 1.4}
            steps, numbers = (list(part) for part in zip(*values, strict=True))
            panel.curves.append(Curve(look(method).label, steps, numbers, style | {"markevery": [len(values) - 1]}))
    if len(panel.curves) > 1:
        panel.title += " (each its own)"
    return panel
