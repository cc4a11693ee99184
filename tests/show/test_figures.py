"""Figures as they are seen: on a projector, without red and green, without colours, in the dark, and named."""

import functools
import re
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from benchmarks.results import recorded_bench
from helpers.data import validate_preferences
from helpers.evaluation.methods import BASELINES, METHODS, TRAINERS
from helpers.runs.recorded import provenance_of_runs, recorded_runs
from helpers.sagemaker import compare, scale
from helpers.show import bench_plot, data_plots, lesson_plots, objective_plots, plan_plots, run_plots
from helpers.show.data_plots import SEVERITY
from helpers.show.explorer import DPI as EXPLORERS_DPI
from helpers.show.explorer import Picture, recorded_path
from helpers.show.report_page import STYLE
from helpers.show.style import BESIDE, GREY, SERIES_COLOURS, SERIES_HATCHES, SERIES_LINES, SIDE_COLOUR, SIDE_LINE, stamp
from helpers.techniques import figures as techniques
from helpers.techniques.results import memory_origin, recorded, recorded_memory
from tests.conftest import make_pairs

RUNS = recorded_runs("laptop")
RUN = RUNS[0]
LOSSES = {
    method: [{"step": step, "loss": 3.0 - step / 80 + part} for step in range(1, 151)]
    for method, part in (("sft", 0.0), ("orpo", 0.4))
}
SIDE = [("word", -0.5), ("other", -2.0)]
STYLE_CURVE = [
    {"step": step, "chosen_logp": -1.2 + step / 150, "rejected_logp": -0.7 + step / 400}
    | {"chosen_alone": -3.5 + step / 100, "rejected_alone": -3.4 + step / 100}
    for step in range(0, 151, 25)
]
TITLES = (
    "A learning rate far too large",
    "Answers laid end to end without an end token",
    "Chosen and rejected swapped",
)


def stamped(figure):
    return stamp(figure, provenance_of_runs(RUNS))


FIGURES = {
    "monitor": lambda: stamped(run_plots.plot_monitor(RUN["monitor"], faint=("sft",))),
    "monitor with losses": lambda: run_plots.plot_monitor(RUN["monitor"], faint=("sft",), losses=LOSSES),
    "results": lambda: stamped(run_plots.plot_results(RUN["methods"], baselines=RUN["baselines"])),
    "curves": lambda: stamped(run_plots.plot_curves(RUNS)),
    "style control": lambda: stamped(lesson_plots.plot_style_control({"sft": STYLE_CURVE, "orpo": STYLE_CURVE})),
    "failures": lambda: stamped(lesson_plots.plot_failures(dict.fromkeys((*TITLES, "beta"), STYLE_CURVE), STYLE_CURVE)),
    "tokens": lambda: run_plots.plot_token_logps({label: {"chosen": SIDE, "rejected": SIDE} for label in "ab"}),
    "log-odds": objective_plots.plot_log_odds,
    "loss": lambda: objective_plots.plot_loss(1.0),
    "ratios": objective_plots.plot_ratios,
    "beta": objective_plots.plot_beta,
    "explorer": lambda: Picture(0.3, 0.2, 1.0, *recorded_path()).figure,
    "validation": lambda: data_plots.plot_validation(make_pairs(), validate_preferences(make_pairs())),
    "bench": lambda: bench_plot.plot_bench(recorded_bench()),
    "plans": lambda: plan_plots.plot_plans(compare("Qwen3-1.7B", ("sft", "orpo", "dpo"), tensor_parallel=2)),
    "nodes": lambda: plan_plots.plot_nodes(scale("Llama-3.1-8B", (1, 2, 4), update_pairs=64, tensor_parallel=8)),
    "techniques": techniques.plot_techniques,
    "memory": lambda: stamp(techniques.plot_memory(recorded_memory()), memory_origin(recorded_memory())),
    "trade-off": lambda: techniques.plot_trade_off(recorded()),
    "betas": lambda: techniques.plot_betas([record for record in recorded() if "betas" in record]),
}


@functools.cache
def drawn(name: str):
    """The figure, laid out."""
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    plt.close(figure)
    return figure


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_below_9_points_where_a_screen_of_1280_pixels_shows_it(name):
    """JupyterLab leaves an output 1100 of them, and shrinks a wider picture to that. A CSS point is 96 / 72 pixels."""
    figure, dpi = drawn(name), EXPLORERS_DPI if name == "explorer" else 110
    shown = min(1, 1100 / (figure.get_figwidth() * dpi))
    small = {
        text.get_text(): text.get_fontsize() * dpi / 96 * shown
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
    }
    assert min(small.values()) >= 9 - 1e-6, min(small.items(), key=lambda each: each[1])


@pytest.mark.parametrize("name", ["monitor", "results", "curves", "memory", "explorer", "style control", "failures"])
def test_the_stamp_fits_its_figure(name):
    figure = drawn(name)
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width, text.get_text()


# ── names beside lines ──────────────────────────────────────────────────────────────────────────────────────


def names(axis) -> list[Text]:
    return [text for text in axis.texts if text.get_gid() == BESIDE]


def begun(steps: int):
    """ORPO's training after some measurements, beside the whole of SFT's."""
    by = {"sft": RUN["monitor"]["sft"], "orpo": RUN["monitor"]["orpo"][:steps]}
    figure = run_plots.plot_monitor(by, faint=("sft",), losses=LOSSES)
    figure.draw_without_rendering()
    plt.close(figure)
    return figure


@pytest.mark.parametrize(
    "figure",
    [
        *(
            functools.partial(drawn, name)
            for name in ("monitor", "monitor with losses", "beta", "log-odds", "style control")
        )
    ]
    + [functools.partial(begun, steps) for steps in (1, 2, 4)],
    ids=["monitor", "with losses", "beta", "log-odds", "style control", "begun", "at 2", "at 4"],
)
def test_lines_are_named_beside_them_and_no_name_lies_on_another(figure):
    figure = figure()
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
        assert axis.get_legend() is None and {text.get_text() for text in names(axis)} == set(lines)
        boxes = [text.get_window_extent() for text in names(axis)]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)
        for text in names(axis):
            assert contrast(text.get_color(), "white") >= 4.5, "a text needs more than a line"


# ── without colours ─────────────────────────────────────────────────────────────────────────────────────────

# Deuteranopia on linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency" (IEEE TVCG 15(6), 2009), the matrix of severity 1.0
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB
APART = 15  # CIE 1976: a difference of 2.3 is just seen between two fields; thin lines need several times that


def linear(colour) -> np.ndarray:
    part = np.array(to_rgb(colour))
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    x, y, z = np.cbrt(np.clip(XYZ @ light, 1e-4, None) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other) -> float:
    """WCAG's ratio of two colours' luminances."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


DRAWN_TOGETHER = {  # {name: (colour, what tells it apart without one)}; the reward model is a part of RLHF
    "methods": {name: (look.colour, look.marker) for name, look in METHODS.items() if name != "reward"},
    "trainers": {name: (look.colour, look.marker) for name, look in TRAINERS.items()},
    "sides": {side: (SIDE_COLOUR[side], SIDE_LINE[side]) for side in SIDE_COLOUR},
    "curves": {str(line): (colour, line) for colour, line in zip(SERIES_COLOURS, SERIES_LINES, strict=True)},
    "bars": {hatch: (colour, hatch) for colour, hatch in zip(SERIES_COLOURS, SERIES_HATCHES, strict=True)},
    "severities": SEVERITY,
}


@pytest.mark.parametrize("palette", DRAWN_TOGETHER.values(), ids=DRAWN_TOGETHER)
def test_colours_stay_apart_without_red_and_green_and_marks_without_any(palette):
    for one, other in combinations(palette, 2):
        seen = [lab(DEUTERANOPIA @ linear(palette[name][0])) for name in (one, other)]
        assert np.linalg.norm(seen[0] - seen[1]) >= APART, f"{one} and {other} look alike under deuteranopia"
        assert palette[one][1] != palette[other][1], f"{one} and {other} look alike in grayscale"


@pytest.mark.parametrize("measure", ["answers_right", "preference_accuracy"])
def test_baselines_drawn_together_differ_in_their_lines(measure):
    together = [name for name, result in RUN["baselines"].items() if measure in result]
    assert together and len({BASELINES[name][2] for name in together}) == len(together)


def grey(line) -> tuple:
    """What is left of a line on a grayscale print: lightness, and what does not need colours."""
    hollow = line.get_marker() != "None" and to_rgb(line.get_markerfacecolor()) == (1, 1, 1)
    return lab(linear(line.get_color()))[0], (line.get_linestyle(), line.get_marker(), hollow, line._dash_pattern)


@pytest.mark.parametrize("name", FIGURES)
def test_lines_with_a_label_can_be_told_apart_in_grayscale(name):
    for axis in drawn(name).axes:
        lines = [line for line in axis.lines if not line.get_label().startswith("_")]
        for one, other in combinations(lines, 2):
            (light, look), (other_light, other_look) = grey(one), grey(other)
            alike = look == other_look and abs(light - other_light) < APART
            assert not alike, f"{one.get_label()!r} and {other.get_label()!r} look alike without colours"


# ── in the dark ─────────────────────────────────────────────────────────────────────────────────────────────

# hue-rotate(180deg) of the W3C's Filter Effects Module, on sRGB
TURNED = np.array([[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]])


def in_the_dark(colour) -> np.ndarray:
    """A colour of a figure as the report's filter shows it on a dark page."""
    invert, brightness = map(
        float, re.search(r"invert\(([\d.]+)\) hue-rotate\(180deg\) brightness\(([\d.]+)\)", STYLE).groups()
    )
    part = np.array(to_rgb(colour))
    inverted = invert * (1 - part) + (1 - invert) * part
    return np.clip(np.clip(TURNED @ inverted, 0, 1) * brightness, 0, 1)


def test_figures_can_be_read_on_a_dark_page_and_keep_their_hues():
    ground, texts = in_the_dark("white"), ("black", "#444444")
    assert max(ground) < 0.12
    colours = {colour for palette in DRAWN_TOGETHER.values() for colour, _ in palette.values()} | {GREY}
    for colour in sorted({*colours, *texts}):
        assert contrast(in_the_dark(colour), ground) >= (7 if colour in texts else 3), colour
        assert contrast(in_the_dark(colour), ground) >= min(contrast(colour, "white"), 7), colour
    for colour in set(colours) - {GREY, "#000000", "#555555"}:
        (was, now) = (lab(linear(each))[1:] for each in (colour, in_the_dark(colour)))
        assert was @ now / np.linalg.norm(was) / np.linalg.norm(now) > 0.7, colour
    paper = STYLE.partition("@media print")[2]
    assert "img { filter: none; }" in paper, "ink on paper stays dark"


def test_the_lengths_of_prompt_and_answers_have_a_line_each():
    rows = {"prompt_length": [2, 3], "chosen_input_ids": [[1] * 5, [1] * 9], "rejected_input_ids": [[1] * 4, [1] * 6]}
    (axis,) = data_plots.plot_lengths(rows, 64).axes
    assert len({patch.get_linestyle() for patch in axis.patches}) == 3
