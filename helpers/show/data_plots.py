"""What a data set is like, as pictures: what validation found, which answer is longer, how long rows are."""

import numpy as np
from matplotlib.figure import Figure

from helpers.data.pair_warnings import text_of
from helpers.data.schema import SIDES
from helpers.data.set_warnings import longer_wins
from helpers.show.style import GREY, SIDE_COLOUR, panels_of, styled

SEVERITY = {"error": ("#D55E00", "//"), "warning": ("#E69F00", ".."), "set": ("#56B4E9", "")}  # colour and hatch
KINDS_SHOWN = 10  # bars; more of them can't be read


@styled
def plot_validation(dataset, report) -> Figure:
    """Left, how many rows each kind of finding concerns; right, the lengths of both answers of each pair.

    report: of `validate_preferences`. Where most points lie on one side of the diagonal, length alone tells the better
    answer.
    """
    figure, (left, right) = panels_of(2, width=6.6)
    _bars(left, report.table()[:KINDS_SHOWN], report.rows)
    lengths = [np.array([len(text_of(messages)) for messages in dataset[side]]) for side in SIDES]
    right.scatter(*lengths, s=14, alpha=0.5, color=SIDE_COLOUR["chosen"], edgecolors="none")
    limits = [1, 1.1 * max(values.max() for values in lengths)]
    right.plot(limits, limits, "--", color=GREY, label="same length")
    right.legend(loc="lower right", fontsize=11)
    longer = longer_wins(dataset)
    title = f"The chosen answer is longer in {longer:.0%} of the pairs"
    right.set(xlabel="chosen (characters)", ylabel="rejected (characters)", title=title)
    return figure


def _bars(axis, lines: list[dict], rows: int) -> None:
    """A bar for each kind, the worst on top, with its count."""
    axis.set(title=f"What validation found in {rows} rows", xlabel="rows")
    if not lines:
        axis.text(0.5, 0.5, "nothing", ha="center", transform=axis.transAxes)
        axis.set_yticks([])
        return
    counts = [line["count"] for line in lines]
    bars = axis.barh(range(len(lines)), counts, edgecolor="#333333")
    for bar, line in zip(bars, lines, strict=True):
        colour, hatch = SEVERITY[line["severity"]]
        bar.set(facecolor=colour, hatch=hatch, label=line["severity"])
    axis.bar_label(bars, padding=4)
    axis.set_yticks(range(len(lines)), [line["kind"] for line in lines])
    axis.set_xlim(0, 1.15 * max(counts))
    axis.set_ylim(max(4, len(lines)) + 0.3, -0.7)  # the first on top, room for the legend below
    axis.grid(axis="y", visible=False)
    seen = dict(zip([line["severity"] for line in lines], bars, strict=True))
    axis.legend(seen.values(), seen, loc="lower right", fontsize=11)


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
