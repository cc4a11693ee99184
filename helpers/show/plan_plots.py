"""Plans of trainings as figures: memory of a core as stacked bars below its limit, and time and price over nodes.

They take what `helpers.sagemaker.plan` and `scale` return.
"""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from helpers.show.style import GREY, SERIES_COLOURS, SERIES_HATCHES, SERIES_LINES, panels_of, smallest_text, styled

GIB = 2**30
PARTS = ("weights", "reference", "optimizer", "gradients", "activations", "logits")


@styled
def plot_plans(plans: dict) -> Figure:
    """{label: plan}: a bar for each with the memory of a core by part; a line where the core's usable memory ends."""
    figure, (axis,) = panels_of(1, width=max(6.5, 2.2 + 1.5 * len(plans)), height=4.2)
    bottoms = [0.0] * len(plans)
    for part, colour, hatch in zip(PARTS, SERIES_COLOURS, SERIES_HATCHES, strict=True):
        sizes = [made.memory.get(part, 0) / GIB for made in plans.values()]
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
        axis.bar(range(len(plans)), sizes, 0.6, bottom=bottoms, label=part, **look)
        bottoms = [bottom + size for bottom, size in zip(bottoms, sizes, strict=True)]
    for place, (made, top) in enumerate(zip(plans.values(), bottoms, strict=True)):
        limit = made.limit / GIB
        axis.plot([place - 0.4, place + 0.4], [limit, limit], "--", color="black", label="" if place else "usable")
        axis.text(place, top, f"{top:.1f}" + ("" if made.fits else "\ndoes not fit"), ha="center", va="bottom")
    axis.set_xticks(range(len(plans)), [label.replace(", ", ",\n") for label in plans])
    axis.tick_params(axis="x", labelsize=max(11, smallest_text(figure)))
    axis.set_ylabel("GiB of a NeuronCore, on paper")
    axis.set(xlim=(-0.6, len(plans) - 0.4), ylim=(0, 1.2 * max(*bottoms, *(p.limit / GIB for p in plans.values()))))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plans_text(plans: dict) -> str:
    """The same in words, for those who can't see the bars."""
    said = (
        f"{label} {made.bytes / GIB:.1f} of {made.limit / GIB:.1f} GiB, {'fits' if made.fits else 'does not fit'}"
        for label, made in plans.items()
    )
    return f"Memory of a NeuronCore by part, on paper: {'; '.join(said)}"


@styled
def plot_nodes(scaling) -> Figure:
    """Hours and cost (instance-hours where no price is known) over the number of nodes, and where more stop paying."""
    figure, (time, price) = panels_of(2, width=5.6, height=4.4)
    nodes = [row.nodes for row in scaling.rows]
    parts = {"in all": [row.total for row in scaling.rows]}
    parts["compute"] = [row.seconds["compute"] for row in scaling.rows]
    parts["collectives"] = [row.seconds["tensor parallel"] + row.seconds["data parallel"] for row in scaling.rows]
    parts["setup and compile"] = [row.seconds["setup"] + row.seconds["compile"] for row in scaling.rows]
    for (label, seconds), colour, line in zip(parts.items(), SERIES_COLOURS, SERIES_LINES, strict=False):
        hours = [each / 3600 or math.nan for each in seconds]
        time.plot(nodes, hours, linestyle=line, marker="o", markersize=4, color=colour, label=label)
    known = not math.isnan(scaling.rows[0].cost)
    spent = [row.cost if known else row.node_hours for row in scaling.rows]
    price.plot(nodes, spent, "-o", color="black", markersize=5)
    time.set(ylabel="hours, on paper", yscale="log")
    price.set(ylabel="US dollars" if known else "instance-hours, no price is known", ylim=(0, None))
    for axis in (time, price):
        axis.set(xlabel="nodes", xscale="log")
        axis.set_xticks(nodes, nodes)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(NullLocator())
        if scaling.best:
            axis.axvline(scaling.best.nodes, color=GREY, linestyle=":")
    if scaling.best:
        time.set_title(f"doubling pays up to {scaling.best.nodes} nodes (dotted)", fontsize=12)
    time.legend(fontsize=10)
    return figure
