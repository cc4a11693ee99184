"""The figure that moves while a model trains: where its lines lie, what it says, and how little it costs."""

import math
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from helpers.runs.recorded import recorded_runs
from helpers.show import live_figure
from helpers.show.live_figure import POINTS, LiveFigure, as_svg
from helpers.show.monitor_panels import Curve, Panel, monitor_panels
from helpers.show.notebook import figure_image
from helpers.show.run_plots import plot_monitor

MONITOR = recorded_runs("laptop")[0]["monitor"]
LOG = [
    {"step": step, "loss": 3 - step / 80, "logps/chosen": -1 + step / 200, "logps/rejected": -1 - step / 200}
    for step in range(1, 151)
]
DRAWN = MONITOR, ("sft",), {"sft": [{"step": 1, "loss": 3.0}], "orpo": LOG}
LOOK = {"color": "#0072B2", "marker": "^"}


def drawn(panels, **how) -> ElementTree.Element:
    return ElementTree.fromstring(as_svg(panels, "what it shows", **how))


def lines_of(svg) -> list[np.ndarray]:
    """The points of each line, (n, 2)."""
    lines = [line.get("points").split() for line in svg.iter("polyline")]
    return [np.array([[float(part) for part in point.split(",")] for point in line]) for line in lines]


def texts_of(svg) -> list[str]:
    return [text.text for text in svg.iter("text")]


def test_lines_lie_where_the_values_are_against_the_ticks():
    """A line's pixels are a linear map of its values: the one that the labels of the axis's ticks give."""
    steps, values = [0, 10, 40, 100], [-1.5, -0.25, -0.75, 0.5]
    svg = drawn([Panel("title", "nats", [Curve("a", steps, values, LOOK)])])
    (line,) = lines_of(svg)
    ticks = [text for text in svg.iter("text") if text.get("text-anchor") == "end"]
    size = float(ticks[0].get("font-size"))
    heights = [(float(text.text.replace("−", "-")), float(text.get("y")) - 0.35 * size) for text in ticks]
    slope, start = np.polyfit(*np.transpose(heights), 1)
    np.testing.assert_allclose(line[:, 1], slope * np.array(values) + start, atol=1.5)
    below = [text for text in svg.iter("text") if text.get("text-anchor") == "middle" and text.text.isdigit()]
    slope, start = np.polyfit(*np.transpose([(float(text.text), float(text.get("x"))) for text in below]), 1)
    np.testing.assert_allclose(line[:, 0], slope * np.array(steps) + start, atol=1.5)
    assert slope > 0


def test_it_shows_the_curves_of_the_picture_under_the_same_names():
    picture, svg = plot_monitor(*DRAWN), drawn(monitor_panels(*DRAWN))
    shown = [line.get_label() for axis in picture.axes for line in axis.lines if not line.get_label().startswith("_")]
    texts = texts_of(svg)
    assert [text for text in texts if text in shown] == shown
    assert len(lines_of(svg)) == sum(len(axis.lines) for axis in picture.axes)
    for axis in picture.axes:
        assert axis.get_ylabel() in texts and set(axis.get_title().split()) <= set(" ".join(texts).split())


def test_the_pairs_of_each_step_are_thin_lines_of_the_method_that_trains():
    logps, margins, _ = monitor_panels(*DRAWN)
    own = [curve for curve in logps.curves if curve.label.startswith("_")]
    assert [curve.values[-1] for curve in own] == [-1 + 150 / 200, -1 - 150 / 200]
    assert margins.curves[0].values[-1] == pytest.approx(1.5) and margins.curves[0].label.startswith("_")
    assert all(curve.style["alpha"] < 0.5 and curve.style["linewidth"] < 1.5 for curve in own)
    paler = monitor_panels(MONITOR, ("sft", "orpo"), DRAWN[2])[0]
    assert not [curve for curve in paler.curves if curve.label.startswith("_")]


def test_a_long_training_has_no_more_points_than_a_line_can_show_and_always_the_newest():
    for length in (1, POINTS, POINTS + 1, 5000):
        curve = Curve("a", list(range(length)), [float(step) for step in range(length)], LOOK)
        svg = drawn([Panel("title", "nats", [curve])])
        (line,) = lines_of(svg)
        (mark,) = svg.iter("circle")
        assert len(line) <= POINTS and [float(mark.get("cx")), float(mark.get("cy"))] == line[-1].tolist()


def test_what_is_no_number_is_left_out_and_so_is_what_is_not_there_yet():
    svg = drawn([Panel("title", "nats", [Curve("a", [0, 1, 2], [1.0, math.nan, 2.0], LOOK)])])
    assert len(lines_of(svg)[0]) == 2 and "nan" not in ElementTree.tostring(svg, "unicode")
    assert not lines_of(drawn([Panel("title", "nats")])) and not lines_of(drawn(monitor_panels({"sft": []}, (), {})))


@pytest.mark.parametrize(("big", "points"), [("0", 9), ("1", 18)])
def test_its_texts_are_large_enough_where_1100_pixels_show_it_and_lie_inside(monkeypatch, big, points):
    """Of the picture's 1364 pixels; a point is 96 / 72 of them. With large type it fits a projector's 600 of 720."""
    monkeypatch.setenv("WORKSHOP_BIG", big)
    svg = drawn(monitor_panels(*DRAWN), label="" if big == "1" else "recorded on a machine")
    sizes = [float(text.get("font-size")) for text in svg.iter("text") if text.text not in axis_names(svg)]
    assert min(sizes) * 1100 / 1364 * 72 / 96 >= points - 0.5
    *_, high = map(float, svg.get("viewBox").split())
    assert all(0 < float(text.get("y")) < high for text in svg.iter("text"))
    assert high * 1100 / 1364 <= (600 if big == "1" else 460)


def axis_names(svg) -> set[str]:
    """What the axes measure, in smaller type as a second title."""
    return {text for text in texts_of(svg) if text.endswith("(nats)")}


def test_it_is_named_for_those_who_cannot_see_it_and_escapes_what_it_says():
    page = as_svg([Panel("<b>", "nats", [Curve('"&', [0], [1.0], LOOK)])], 'a "figure" & more', label="<i>")
    svg = ElementTree.fromstring(page)
    assert svg.get("aria-label") == 'a "figure" & more' and svg.get("role") == "img"
    assert {"<b>", '"&', "<i>"} <= set(texts_of(svg))


def test_the_picture_takes_the_place_of_the_moving_figure(monkeypatch):
    shown = []

    class Handle:
        def update(self, what, **how) -> None:
            shown.append((what, how))

    monkeypatch.setattr(live_figure, "display", lambda what, display_id, **how: shown.append((what, how)) or Handle())
    figure = LiveFigure("what it shows")
    panels = monitor_panels(*DRAWN)
    figure.move(panels)
    figure.move(panels, "recorded somewhere")
    figure.keep("picture")
    (first, raw), (second, _), (last, plain) = shown
    assert raw == {"raw": True} and not plain and last == "picture"
    assert first["text/plain"] == "what it shows" and "<svg" in first["text/html"]
    assert "recorded somewhere" in second["text/html"] and "recorded somewhere" not in first["text/html"]


def test_a_move_costs_a_small_part_of_a_picture():
    panels = monitor_panels(*DRAWN)
    moves, pictures = [], []
    for _ in range(3):
        moves.append(seconds_of(lambda: as_svg(panels, "alt")))
        pictures.append(seconds_of(lambda: figure_image(plot_monitor(*DRAWN), "alt")))
    assert min(moves) < 0.1 * min(pictures), (moves, pictures)


def seconds_of(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
