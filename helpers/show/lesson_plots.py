"""What was recorded about the lesson beside the runs, as pictures: the style control, the gallery of failures."""

import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers.data.schema import SIDES
from helpers.evaluation.methods import METHODS
from helpers.show.style import GREY, SIDE_COLOUR, SIDE_LINE, name_ends, panels_of, styled

TITLE = 22  # characters of a line above a narrow panel
MARKERS = {"logp": "o", "alone": "s"}  # with its question, and without


@styled
def plot_style_control(curves: dict[str, list[dict]]) -> Figure:
    """Log-probs of either answer with its draft (filled) and alone (hollow, thin), a panel for each method.

    curves: {method: records of `style_control` with `step`}.
    """
    figure, panels = panels_of(len(curves))
    for axis, (method, records) in zip(panels, curves.items(), strict=True):
        steps = [record["step"] for record in records]
        for side in SIDES:
            for kind, marker in MARKERS.items():
                alone = kind == "alone"
                look = {"color": SIDE_COLOUR[side], "marker": marker, "linewidth": 1.2 if alone else 2.2}
                look |= {"markerfacecolor": "white"} if alone else {}
                label = f"{side}, no draft" if alone else side
                axis.plot(steps, [record[f"{side}_{kind}"] for record in records], SIDE_LINE[side], label=label, **look)
        axis.set(xlabel="optimizer step", title=f"{METHODS[method].label}: validation log-probs")
        axis.set_xlim(-0.02 * steps[-1], 1.02 * steps[-1])
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    panels[0].set_ylabel("log-prob per token (nats)")
    for axis in panels[1:]:
        axis.sharey(panels[0])
    for axis in panels:
        name_ends(axis, len(panels))
    return figure


@styled
def plot_failures(curves: dict[str, list[dict]], right: list[dict]) -> Figure:
    """Log-probs of what each training calls chosen and rejected, a panel each; in grey the training with nothing wrong.

    curves: {title: points with `step`, `chosen_logp`, `rejected_logp`}; right: the points of the grey lines.
    """
    figure, panels = panels_of(len(curves), width=12.4 / len(curves), height=3.9)
    for axis, (title, points) in zip(panels, curves.items(), strict=True):
        for side in SIDES:
            grey = {"color": GREY, "linewidth": 1.4, "label": f"{side}, nothing wrong"}
            wrong = {"color": SIDE_COLOUR[side], "marker": "o", "markersize": 5, "label": side}
            for records, look in ((right, grey), (points, wrong)):
                steps, values = zip(*((record["step"], record[f"{side}_logp"]) for record in records), strict=True)
                axis.plot(steps, values, SIDE_LINE[side], **look)
        axis.set(xlabel="optimizer step", title=textwrap.fill(title, TITLE))
        axis.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    panels[0].set_ylabel("log-prob per token (nats)")
    figure.legend(handles=panels[0].lines, loc="outside upper center", ncols=4, fontsize=12)
    return figure
