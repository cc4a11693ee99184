"""How every figure looks: one style, and colours with line styles for what is no method."""

import functools

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

SIDE_COLOUR = {"chosen": "#009E73", "rejected": "#D55E00"}
SIDE_LINE = {"chosen": "-", "rejected": "--"}
SERIES_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")  # of curves for several values …
SERIES_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)))  # … each with a line of its own
SERIES_HATCHES = ("", "//", "..", "xx", "\\\\", "--")  # … and of bars, for those who can't tell the colours apart
GREY = "#888888"  # of lines to compare with
STYLE = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
}


def panels_of(columns: int = 1, width: float = 6.2, height: float = 4.4) -> tuple[Figure, list]:
    """A figure with `columns` axes beside each other, `width` × `height` inches each."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False)
    return figure, list(axes[0])


def styled(draw):
    """Draw under the workshop's style, whatever the notebook has set."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def stamp(figure: Figure, text: str) -> Figure:
    """Say under the figure from which run, machine and date it came."""
    figure.supxlabel(text, fontsize=9, color="#444444")
    return figure
