"""A training's figure while it moves: drawn as SVG in about a millisecond, and once at the end as a picture to keep.

matplotlib takes a tenth of a second and more for the same three panels, which is too much to pay at every step.
"""

import html
import math
import textwrap

from IPython.display import display
from matplotlib.ticker import MaxNLocator

from helpers.show.monitor_panels import Curve, Panel, last_step
from helpers.show.style import is_big

WIDE = 1364  # pixels, as the picture has them
PLOT_HIGH, BIG_PLOT_HIGH = 300, 240  # without the texts; with large ones the whole still fits a projector's screen
TEXT, BIG_TEXT = 19, 30  # pixels there: 11 and 18 points where JupyterLab shows 1100 of 1364 pixels
LETTER = 0.56  # of a text's height: how wide a letter is, about
POINTS = 200  # of a line: more than a panel has room for, so a long training costs no more than a short one
DASHES = {"--": "9 6", "-.": "9 4 2 4", ":": "2 4"}


class LiveFigure:
    """A place below a cell that shows one figure after the other; `keep` puts the last one there.

    alt: a text for those who can't see it.
    """

    def __init__(self, alt: str):
        self.alt, self.handle = alt, None

    def move(self, panels: list[Panel], label: str = "") -> None:
        """Show the panels as they are now, with a label below them."""
        self._put({"text/html": as_svg(panels, self.alt, label), "text/plain": self.alt}, raw=True)

    def keep(self, picture) -> None:
        """Show a picture in their place, which a saved notebook, a report and GitHub can show, too."""
        self._put(picture)

    def _put(self, shown, **how) -> None:
        if self.handle is None:
            self.handle = display(shown, display_id=True, **how)
        else:
            self.handle.update(shown, **how)


def as_svg(panels: list[Panel], alt: str, label: str = "") -> str:
    """Panels beside each other as an SVG in HTML, on white in either theme, as pictures are."""
    size, plot_high = (BIG_TEXT, BIG_PLOT_HIGH) if is_big() else (TEXT, PLOT_HIGH)
    wide = WIDE / len(panels)
    titles = [textwrap.wrap(panel.title, int((wide - 20) / (LETTER * size))) for panel in panels]
    head = 1.35 * size * (max(map(len, titles)) + 1)
    names = max([sum(not curve.label.startswith("_") for curve in panel.curves) for panel in panels])
    high = head + plot_high + 1.3 * size * (names + 2.6 + (1.4 if label else 0))
    last = last_step(panels)
    drawn = ""
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        shown = _panel(panel, title, (wide, head, plot_high), size, last)
        drawn += f'<g transform="translate({number * wide:.0f} 0)">{shown}</g>'
    if label:
        drawn += _text(WIDE / 2, high - 0.5 * size, label, size if is_big() else 15, "middle", "#444444")
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {WIDE} {high:.0f}" '
        f'style="width:100%;max-width:{WIDE}px;background:white" font-family="sans-serif">{drawn}</svg>'
    )


def _panel(panel: Panel, title: list[str], measures: tuple, size: float, last: int) -> str:
    """One panel: its title, two axes with their ticks, its curves, and their names below.

    measures: its width, the height of its title, and the height of what is below that, in pixels.
    """
    wide, head, plot_high = measures
    values = [value for curve in panel.curves for value in curve.values if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5
    low, high = low - room, high + room
    ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high] if values else []
    written = [f"{tick:g}".replace("-", "−") for tick in (round(tick, 6) for tick in ticks)]
    left, right, bottom = LETTER * size * max(map(len, [*written, "0"])) + 16, wide - 24, head + plot_high

    def across(step: float) -> float:
        return left + (right - left) * (0.02 + 0.96 * step / last)

    def down(value: float) -> float:
        return bottom - plot_high * (value - low) / (high - low)

    parts = [_text(left, 1.2 * size * (line + 1), text, size) for line, text in enumerate(title)]
    parts.append(_text(left, 1.2 * size * (len(title) + 1), panel.measures, 0.85 * size, colour="#444444"))
    for tick, text in zip(ticks, written, strict=True):
        y = down(tick)
        parts.append(f'<path d="M{left:.0f} {y:.1f}H{right:.0f}" stroke="#dddddd"/>')
        parts.append(_text(left - 6, y + 0.35 * size, text, size, "end"))
    steps = MaxNLocator(3, integer=True).tick_values(0, last)
    parts += [_text(across(s), bottom + 1.2 * size, f"{s:g}", size, "middle") for s in steps if 0 <= s <= last]
    parts.append(f'<path d="M{left:.0f} {head:.0f}V{bottom:.0f}H{right:.0f}" fill="none" stroke="black"/>')
    parts.append(_text((left + right) / 2, bottom + 2.4 * size, "optimizer step", size, "middle"))
    parts += [_curve(curve, across, down) for curve in panel.curves]
    named = [curve for curve in panel.curves if not curve.label.startswith("_")]
    for row, curve in enumerate(named):
        y = bottom + 1.3 * size * (row + 2.9)
        look = _stroke(curve)
        parts.append(f'<path d="M{left:.0f} {y - 0.3 * size:.1f}h46" {look}/>')
        parts.append(_text(left + 56, y, curve.label, size))
    return "".join(parts)


def _curve(curve: Curve, across, down) -> str:
    """Its line through at most POINTS points, the newest among them, and a mark there."""
    every = -(-len(curve.steps) // POINTS) or 1
    places = [*zip(curve.steps, curve.values, strict=True)][::-every][::-1]
    dots = [(across(step), down(value)) for step, value in places if math.isfinite(value)]
    if not dots:
        return ""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    drawn = f'<polyline points="{line}" fill="none" {_stroke(curve)}/>'
    if curve.style.get("marker"):
        fill = curve.style.get("markerfacecolor", curve.style["color"])
        (x, y), strength = dots[-1], curve.style.get("alpha", 1)
        look = f'fill="{fill}" stroke="{curve.style["color"]}" stroke-width="2" opacity="{strength}"'
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {look}/>'
    return drawn


def _stroke(curve: Curve) -> str:
    """A curve's colour, width, dashes and strength as attributes."""
    style = curve.style
    look = f'stroke="{style["color"]}" stroke-width="{1.5 * style.get("linewidth", 2):.1f}" '
    look += f'opacity="{style.get("alpha", 1)}"'
    dashes = DASHES.get(style.get("linestyle", "-"))
    return look + (f' stroke-dasharray="{dashes}"' if dashes else "")


def _text(x: float, y: float, text: str, size: float, anchor: str = "start", colour: str = "black") -> str:
    look = f'font-size="{size:.0f}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {look}>{html.escape(text)}</text>'
