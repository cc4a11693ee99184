"""What was measured in runs, as pictures."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from helpers.data.schema import SIDES
from helpers.evaluation.methods import BASELINES, METHODS, look
from helpers.show.style import GREY, SIDE_COLOUR, SIDE_LINE, panels_of, styled


@styled
def plot_monitor(records_by_method: dict[str, list[dict]], faint: tuple = ()) -> Figure:
    """Log-probs of validation pairs and their margin while training: chosen solid, rejected dashed, a colour a method.

    faint: methods to compare with, drawn paler than the one that trains.
    """
    figure, (left, right) = panels_of(2)
    last = max([record["step"] for records in records_by_method.values() for record in records] + [1])
    for method, records in records_by_method.items():
        steps = [record["step"] for record in records]
        label, style = look(method).label, look(method).points | {"alpha": 0.4 if method in faint else 1}
        chosen, rejected = ([record[f"{side}_logp"] for record in records] for side in SIDES)
        left.plot(steps, chosen, SIDE_LINE["chosen"], label=f"{label} chosen", **style)
        hollow = style | {"markerfacecolor": "white"}
        left.plot(steps, rejected, SIDE_LINE["rejected"], label=f"{label} rejected", **hollow)
        right.plot(steps, np.subtract(chosen, rejected), "-", label=label, **style)
    left.set(xlabel="optimizer step", ylabel="log-prob per token (nats)", title="Log-probs of validation pairs")
    right.set(xlabel="optimizer step", ylabel="chosen − rejected (nats)", title="Margin between right and wrong")
    for axis in (left, right):
        axis.legend(fontsize=11)
        axis.set_xlim(-0.02 * last, 1.02 * last)  # before the first step too, a step is a whole number from 0
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def plot_results(*runs: dict[str, dict], baselines: dict[str, dict] | None = None) -> Figure:
    """Preference accuracy with its 95% interval, and the log-probs behind it, for each method of {method: result}.

    Several runs (seeds) stand beside each other; a single one has its accuracies written out. `baselines` are labelled
    lines across the accuracies.
    """
    figure, (left, right) = panels_of(2)
    for i, methods in enumerate(runs):
        for x, (method, result) in enumerate(methods.items()):
            _accuracy_and_logps(left, right, x + 0.18 * (i - (len(runs) - 1) / 2), method, result)
            if len(runs) == 1:
                value = result["preference_accuracy"]
                left.annotate(f"{value:.0%}", (x, value), xytext=(14, -4), textcoords="offset points")
    note = "(95% interval; dotted: guessing)"
    for axis in (left, right):
        axis.set_xticks(range(len(runs[0])), [look(method).label for method in runs[0]])
        axis.set_xlim(-0.5, len(runs[0]) - 0.3)
    left.axhline(0.5, color=GREY, linestyle=":")
    for name, result in (baselines or {}).items():
        label, colour, line = BASELINES[name]
        left.axhline(result["preference_accuracy"], color=colour, linestyle=line, linewidth=1.6, zorder=0, label=label)
    if baselines:
        frame = {"frameon": True, "framealpha": 1, "edgecolor": "none", "bbox_to_anchor": (1, 0.06)}  # above guessing
        left.legend(fontsize=10, loc="lower right", title="without a language model", title_fontsize=10, **frame)
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set(ylabel="preference accuracy", title=f"Right answer likelier than wrong one\n{note}")
    right.set(ylabel="log-prob per token (nats)", title="Filled: chosen answer\nhollow: rejected answer")
    return figure


def _accuracy_and_logps(left, right, x: float, method: str, result: dict) -> None:
    """One method's accuracy with its interval on the left, its two log-probs joined on the right, at x."""
    value, (low, high) = result["preference_accuracy"], result["preference_accuracy_ci95"]
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
            curves = np.array([[record[f"{side}_logp"] for record in run["monitor"][method]] for run in runs])
            look = METHODS[method].points | {"color": SIDE_COLOUR[side]}
            axis.plot(steps, curves.mean(axis=0), SIDE_LINE[side], label=side, **look)
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=SIDE_COLOUR[side], alpha=0.2)
        axis.set(xlabel="optimizer step", title=f"{METHODS[method].label}: validation log-probs")
        axis.legend(loc="center right")
    panels[0].set_ylabel("log-prob per token (nats)")
    panels[1].sharey(panels[0])
    return figure


@styled
def plot_lengths(tokenized, max_length: int) -> Figure:
    """Histogram of prompt, chosen and rejected lengths in tokens, with the limit."""
    figure, (axis,) = panels_of(1, width=8)
    starts = np.array(tokenized["prompt_length"])
    lengths = {"prompt": starts}
    for side in SIDES:
        lengths[side] = np.array([len(ids) for ids in tokenized[f"{side}_input_ids"]]) - starts
    bins = np.arange(0, max(values.max() for values in lengths.values()) + 4, 2)
    for (name, values), line in zip(lengths.items(), ("-", "--", ":"), strict=True):
        look = {"histtype": "step", "linestyle": line, "color": SIDE_COLOUR.get(name, "#555555"), "linewidth": 2.2}
        axis.hist(values, bins, label=name, **look)
    axis.set(xlabel="tokens", ylabel="pairs", title=f"Lengths (a row may hold {max_length} tokens)")
    axis.legend()
    return figure
