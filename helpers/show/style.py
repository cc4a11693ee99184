"""How every figure looks: one style, and colours with line styles for what is no method."""

import functools
import os
import textwrap

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

SIDE_COLOUR = {"chosen": "#009E73", "rejected": "#D55E00"}
SIDE_LINE = {"chosen": "-", "rejected": "--"}
SERIES_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")  # of curves for several values …
SERIES_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)))  # … each with a line of its own
SERIES_HATCHES = ("", "//", "..", "xx", "\\\\", "--")  # … and of bars, for those who can't tell the colours apart
GREY = "#888888"  # of lines to compare with
DPI = 110  # of figures in a notebook
SHOWN = 1100  # pixels that JupyterLab gives an output on a screen of 1280 × 720; wider figures are shrunk to it
SMALLEST = 9  # points of the smallest text as it is shown there
BESIDE = "beside its line"  # marks the name of a line
INK = 0.65  # of a line's colour is in its name: orange as it is can't be read on white
# Two panels of a figure (1364 pixels) are shown in about 1100 on a screen of 1280 × 720: there these are 18 points
BIG_TEXT = 19.5
MANY = 20  # texts in a panel: numbers in a grid, which would run into each other if they were larger
LETTER = 0.17  # inches of a letter of a title then
SHORT = 14  # characters of labels that stand in two columns
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


def stamp(figure: Figure, text: str, dpi: int = DPI) -> Figure:
    """Say under the figure from which run, machine and date it came."""
    figure.supxlabel(text, fontsize=smallest_text(figure, dpi), color="#444444")
    return figure


def smallest_text(figure: Figure, dpi: int = DPI) -> float:
    """The font size that is SMALLEST points where the figure is shown."""
    shown = min(1.0, SHOWN / (figure.get_figwidth() * dpi))
    return SMALLEST * 96 / (dpi * shown)


def name_line(axis, line, at: int = -1, shift=(8, 0), **look) -> None:
    """The label of a line beside one of its points, in its colour, in place of an entry of a legend."""
    place = tuple(values[at] for values in line.get_data())
    look = {"fontsize": 12, "va": "center", "color": [INK * part for part in to_rgb(line.get_color())]} | look
    halo = [withStroke(linewidth=3, foreground="white")]
    name = axis.annotate(line.get_label(), place, shift, textcoords="offset points", annotation_clip=False, **look)
    name.set(gid=BESIDE, path_effects=halo)


def name_ends(axis, panels: int, size: float = 11) -> None:
    """The label of each line of one of `panels` beside its end; where ends meet, the names move apart."""
    wide, high = (72 * part for part in (0.6 * axis.figure.get_figwidth() / panels, 0.7 * axis.figure.get_figheight()))
    lines = [line for line in axis.lines if len(line.get_xdata()) and not line.get_label().startswith("_")]
    lines.sort(key=lambda line: line.get_ydata()[-1])
    place = axis.transData + axis.transAxes.inverted()
    ends = [place.transform([values[-1] for values in line.get_data()]) * (wide, high) for line in lines]
    spans = [(x, x + 0.65 * size * len(line.get_label()), y) for (x, y), line in zip(ends, lines, strict=True)]
    upwards, downwards = _apart(spans, 1.35 * size), _apart([(x, to, -y) for x, to, y in reversed(spans)], 1.35 * size)
    for line, (*_, y), up, down in zip(lines, spans, upwards, reversed(downwards), strict=True):
        name_line(axis, line, shift=(8, (up - down) / 2 - y), fontsize=size)


def _apart(spans: list[tuple], gap: float) -> list[float]:
    """Heights of texts (from x, to x, y), lowest first: each so far above those before it that they do not touch."""
    heights = []
    for x, to, y in spans:
        before = zip(spans, heights, strict=False)
        heights.append(max([y, *(other + gap for (left, right, _), other in before if left < to and x < right)]))
    return heights


def is_big() -> bool:
    """Whether WORKSHOP_BIG asks for texts that can be read from the back of a room."""
    asked = os.environ.get("WORKSHOP_BIG", "")
    if asked not in ("", "0", "1"):
        raise ValueError(f"WORKSHOP_BIG is {asked!r}: give 1 for a projector, or 0")
    return asked == "1"


def enlarged(figure: Figure) -> Figure:
    """The figure with every text at BIG_TEXT at least and legends below their panels, but for numbers in a grid."""
    grids = [axis for axis in figure.axes if len(axis.texts) >= MANY]
    left_alone = {id(text) for axis in grids for text in axis.findobj(Text)}
    panels, rows = [axis for axis in figure.axes if axis not in grids], 0
    letters = int(figure.get_figwidth() / max(len(panels), 1) / LETTER) - 4 * (len(panels) > 2)
    for axis in panels:
        lines = [textwrap.fill(line, letters) for line in axis.get_title().split("\n")]
        axis.set_title("\n".join(lines))
        axis.tick_params(labelsize=BIG_TEXT)
        if names := [text for text in axis.texts if text.get_gid() == BESIDE]:  # that large they fit beside no line
            for name in names:
                name.remove()
            axis.legend()
        if axis.get_legend():
            rows = max(rows, legend_below(axis))
    for text in figure.findobj(Text):
        if id(text) not in left_alone:
            text.set_fontsize(max(text.get_fontsize(), BIG_TEXT))
    for text in figure.texts:  # the stamp, and a title of the whole
        text.set_text(textwrap.fill(text.get_text(), int(figure.get_figwidth() / LETTER)))
        rows += text.get_text().count("\n")
    if panels:
        figure.set_figheight(1.1 * figure.get_figheight() + 1.5 * BIG_TEXT / 72 * rows)
    return figure


def legend_below(axis) -> int:
    """Put a panel's legend below it, where large texts hide no curve; returns how many rows it has."""
    old = axis.get_legend()
    labels, title = [text.get_text() for text in old.get_texts()], old.get_title().get_text()
    columns = 2 if max(map(len, labels)) <= SHORT else 1
    how = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": columns, "frameon": False}
    how |= {"fontsize": BIG_TEXT, "columnspacing": 1.0, "handlelength": 1.6}
    axis.legend(old.legend_handles, labels, title=title or None, **how)
    return -(-len(labels) // columns) + bool(title)
