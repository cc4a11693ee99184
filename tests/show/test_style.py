"""Figures and views for a projector."""

import ipywidgets as widgets
import numpy as np
import pytest
from matplotlib.text import Text

from helpers.runs.recorded import recorded_runs
from helpers.show.notebook import figure_image
from helpers.show.pages import boxed, sized
from helpers.show.run_plots import plot_monitor, plot_results, plot_token_logps
from helpers.show.style import BIG_TEXT, enlarged, stamp

RUN = recorded_runs("laptop")[0]


def figures():
    yield plot_monitor(RUN["monitor"], faint=("sft",))
    yield stamp(plot_results(RUN["methods"], baselines=RUN["baselines"]), "recorded somewhere")


def texts(figure) -> list[Text]:
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def test_every_text_of_a_big_figure_is_18_points_where_it_is_shown():
    shown = 1100 / 1364  # a figure of two panels is this much smaller in JupyterLab at 1280 × 720
    assert BIG_TEXT / 72 * 110 * shown >= 18 * 96 / 72
    for figure in figures():
        before = {text.get_text() for text in texts(figure)}
        small = [text for text in texts(figure) if text.get_fontsize() < BIG_TEXT]
        assert small
        found = texts(enlarged(figure))
        assert min(text.get_fontsize() for text in found) >= BIG_TEXT
        said = {" ".join(text.get_text().split()) for text in found}
        assert {"log-prob per token (nats)"} <= said & before


def test_legends_stand_below_their_panels_and_keep_their_labels():
    """Names beside lines move there too: that large they fit beside no line."""
    figure = plot_monitor(RUN["monitor"], faint=("sft",))
    labels = [[line.get_label() for line in axis.lines] for axis in figure.axes]
    enlarged(figure).canvas.draw()
    assert not any(axis.texts for axis in figure.axes)
    for axis, kept in zip(figure.axes, labels, strict=True):
        legend = axis.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == kept
        assert legend.get_window_extent().y1 < axis.get_window_extent().y0


def test_numbers_in_a_grid_stay_as_they_are():
    side = [(f"word{i}", float(value)) for i, value in enumerate(np.linspace(-3, -0.1, 12))]
    figure = plot_token_logps({label: {"chosen": side, "rejected": side} for label in ("base", "SFT", "ORPO")})
    numbers = [text.get_fontsize() for text in figure.axes[0].texts]
    enlarged(figure)
    assert [text.get_fontsize() for text in figure.axes[0].texts] == numbers


@pytest.mark.parametrize(("asked", "big"), [("1", True), ("0", False), ("", False)])
def test_the_switch_makes_figures_and_views_big(monkeypatch, asked, big):
    plain = figure_image(plot_monitor(RUN["monitor"]), "alt").data
    monkeypatch.setenv("WORKSHOP_BIG", asked)
    assert (figure_image(plot_monitor(RUN["monitor"]), "alt").data != plain) == big
    assert ("font-size: 18pt" in boxed("text")) == big


def test_the_buttons_and_sliders_of_a_view_have_large_type_where_it_is_asked_for(monkeypatch):
    view = widgets.Button(description="Next")
    assert sized(view) is view and not view._dom_classes
    monkeypatch.setenv("WORKSHOP_BIG", "1")
    look, shown = sized(view).children
    assert shown is view and view._dom_classes == ("workshop-big",)
    assert ".workshop-big {" in look.value and "--jp-widgets-font-size: 18pt" in look.value


def test_another_value_is_refused(monkeypatch):
    monkeypatch.setenv("WORKSHOP_BIG", "yes")
    with pytest.raises(ValueError, match="WORKSHOP_BIG is 'yes': give 1 for a projector, or 0"):
        boxed("text")
