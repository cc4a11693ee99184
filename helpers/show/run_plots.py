"""What was measured in runs, as pictures."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.data.schema import SIDES
from helpers.evaluation.methods import BASELINES, METHODS, look
from helpers.show.monitor_panels import last_step, monitor_panels
from helpers.show.style import GREY, SIDE_COLOUR, SIDE_LINE, STYLE, name_ends, panels_of, styled

LOWEST_SHOWN = -6.0  # nats; below it the colour stays the same, the number is written out


@styled
def plot_monitor(records_by_method: dict[str, list[dict]], faint: tuple = (), losses: dict | None = None) -> Figure:
    """Log-probs of validation pairs and their margin while training: chosen solid, rejected dashed, a colour a method.

    faint: methods to compare with, drawn paler than the one that trains. losses: {method: records with `step` and
    `loss`}, a panel of their own.
    """
    panels = monitor_panels(records_by_method, faint, losses)
    figure, axes = panels_of(2) if losses is None else panels_of(3, width=12.4 / 3)
    last = last_step(panels)
    for axis, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            axis.plot(curve.steps, curve.values, label=curve.label, **curve.style)
        if not axis.lines:  # before the first step
            axis.set_yticks([])
        axis.set(xlabel="optimizer step", ylabel=panel.measures, title=panel.title)
        axis.set_xlim(-0.02 * last, 1.02 * last)  # before the first step too, a step is a whole number from 0
        axis.xaxis.set_major_locator(MaxNLocator(nbins=3 if len(axes) > 2 else 8, integer=True))
        name_ends(axis, len(figure.axes))
    return figure


@styled
def plot_results(*runs: dict[str, dict], baselines: dict[str, dict] | None = None) -> Figure:
    """What each method of {method: result} reaches, with its 95% interval, and the log-probs of held-out answers.

    What it reaches is the share of its answers that the checker accepts, where all were checked, else its preference
    accuracy. Several runs (seeds) stand beside each other; a single one has its values written out. `baselines` are
    labelled lines across these values.
    """
    figure, (left, right) = panels_of(2)
    checked = all("answers_right" in result for methods in runs for result in methods.values())
    key = "answers_right" if checked else "preference_accuracy"
    for i, methods in enumerate(runs):
        for x, (method, result) in enumerate(methods.items()):
            _share_and_logps(left, right, x + 0.18 * (i - (len(runs) - 1) / 2), method, result, key)
            if len(runs) == 1:
                beside = (14, -4 if result[key] > 0.05 else 4)  # points; above the axis, not across it
                left.annotate(f"{result[key]:.0%}", (x, result[key]), xytext=beside, textcoords="offset points")
    for axis in (left, right):
        axis.set_xticks(range(len(runs[0])), [look(method).label for method in runs[0]])
        axis.set_xlim(-0.5, len(runs[0]) - 0.3)
    if not checked:
        left.axhline(0.5, color=GREY, linestyle=":")
    drawn = {name: result[key] for name, result in (baselines or {}).items() if key in result}
    for name, value in drawn.items():
        label, colour, line = BASELINES[name]
        left.axhline(value, color=colour, linestyle=line, linewidth=1.6, zorder=0, label=label)
    if drawn:
        frame = {"frameon": True, "framealpha": 1, "edgecolor": "none", "bbox_to_anchor": (1, 0.06)}  # above guessing
        left.legend(fontsize=11, loc="lower right", title="without a language model", title_fontsize=11, **frame)
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if checked:
        left.set(
            ylabel="share of answers", title="Generated answers that the checker accepts\n(95% interval)", ylim=(0, 1)
        )
    else:
        title = "Right answer likelier than wrong one\n(95% interval; dotted: guessing)"
        left.set(ylabel="preference accuracy", title=title)
    right.set(ylabel="log-prob per token (nats)", title="Filled: chosen answer\nhollow: rejected answer")
    return figure


def _share_and_logps(left, right, x: float, method: str, result: dict, key: str) -> None:
    """One method's measure with its interval on the left, its two log-probs joined on the right, at x."""
    value, (low, high) = result[key], result[f"{key}_ci95"]
    style = look(method).points | {"markersize": 9, "linestyle": "none"}
    left.errorbar([x], [value], yerr=[[value - low], [high - value]], capsize=6, **style)
    right.vlines(x, result["rejected_logp"], result["chosen_logp"], color=style["color"], linestyle=":")
    right.plot([x], [result["chosen_logp"]], **style)
    right.plot([x], [result["rejected_logp"]], markerfacecolor="white", **style)


@styled
def plot_curves(runs: list[dict]) -> Figure:
    """Recorded runs: validation log-probs while SFT and ORPO train, the mean over seeds with a band from min to max."""
    figure, panels = panels_of(2)
    for axis, method in zip(panels, ("sft", "orpo"), strict=True):
        steps = [record["step"] for record in runs[0]["monitor"][method]]
        for side in SIDES:
            curves = np.array([_at(steps, run["monitor"][method], f"{side}_logp") for run in runs])
            look = METHODS[method].points | {"color": SIDE_COLOUR[side]}
            axis.plot(steps, curves.mean(axis=0), SIDE_LINE[side], label=side, **look)
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=SIDE_COLOUR[side], alpha=0.2)
        axis.set(xlabel="optimizer step", title=f"{METHODS[method].label}: validation log-probs")
        axis.legend(loc="center right")
    panels[0].set_ylabel("log-prob per token (nats)")
    panels[1].sharey(panels[0])
    return figure


def _at(steps: list[int], records: list[dict], key: str) -> np.ndarray:
    """The values of a key at these steps. A run may have measured at others, by how fast its machine was."""
    return np.interp(steps, [record["step"] for record in records], [record[key] for record in records])


@styled
def plot_token_logps(answers: dict[str, dict[str, list[tuple[str, float]]]]) -> Figure:
    """Log-prob of each token of a chosen and a rejected answer, a row a model: {label: of `answer_logps`}."""
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, panels = plt.subplots(2, 1, figsize=(12, 4.6), layout="constrained")
    lowest = min(logp for sides in answers.values() for tokens in sides.values() for _, logp in tokens)
    for axis, side in zip(panels, SIDES, strict=True):
        tokens = [text.replace("\n", "⏎") for text, _ in next(iter(answers.values()))[side]]
        grid = np.array([[logp for _, logp in sides[side]] for sides in answers.values()])
        image = axis.imshow(grid, cmap="cividis", vmin=max(lowest, LOWEST_SHOWN), vmax=0, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            ink = "black" if value > 0.5 * image.get_clim()[0] else "white"
            axis.text(
                column,
                row,
                f"{abs(value):.1f}" if value > -0.05 else f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=9.5,
                color=ink,
            )
        axis.set_xticks(range(len(tokens)), tokens, fontsize=10, rotation=30, ha="right")
        axis.set_yticks(range(len(answers)), answers)
        axis.set_title(f"{side} answer", fontsize=12, loc="left")
    figure.colorbar(image, ax=panels, label="log p (nats)", pad=0.01)
    return figure
