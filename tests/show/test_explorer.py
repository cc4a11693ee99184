"""The sliders over the objective: numbers, picture, and the walk through a recorded training."""

import math
import threading
from functools import partial

import pytest
from matplotlib.text import Text

from helpers.show.explorer import BIG_DPI, Picture, gradients, odds_ratio_explorer, odds_ratio_table, recorded_path
from tests.conftest import assert_quick


def test_table_worked_by_hand():
    """p = 1/2 has odds 1, p = 1/5 has odds 1/4: the odds ratio is 4 and the term is log(1 + 1/4)."""
    lines = dict(line.split("  ", 1) for line in odds_ratio_table(0.5, 0.2, 2.0).splitlines())
    values = {name.strip(): float(text.split()[0]) for name, text in lines.items()}
    assert values["odds ratio"] == 4.0
    assert values["NLL(chosen)"] == pytest.approx(math.log(2), abs=1e-3)
    assert values["β · L_OR"] == pytest.approx(2 * math.log(1.25), abs=1e-3)
    # dL_OR/dΔ = −σ(−log 4) = −1/5, and d log-odds/d log p = 1/(1 − p): 2 for the chosen, 1.25 for the rejected.
    assert values["pull on chosen"] == pytest.approx(1 + 2 * 0.2 * 2, abs=1e-3)
    assert values["push on rejected"] == pytest.approx(2 * 0.2 * 1.25, abs=1e-3)


def test_moving_a_slider_shows_the_new_point(capsys):
    box = odds_ratio_explorer(beta=1.5)
    image, before = box.children[4], bytes(box.children[4].value)
    assert before.startswith(b"\x89PNG")
    assert box.children[2].value == 1.5 and odds_ratio_table(0.3, 0.2, 1.5) in capsys.readouterr().out
    assert odds_ratio_table(0.3, 0.2, 1.5) in box.children[5].value
    chosen, rejected, beta = box.children[:3]
    chosen.value, rejected.value, beta.value = 0.5, 0.2, 2.0
    assert odds_ratio_table(0.5, 0.2, 2.0) in box.children[5].value
    assert bytes(image.value) != before


def test_sliders_that_two_threads_move_at_once_leave_the_picture_of_where_they_stand():
    """JupyterLab brings the moves in several threads. Both draw the same figure, which stayed blank ever after."""
    box = odds_ratio_explorer()
    chosen, rejected = box.children[:2]

    def move(slider, to: float) -> None:
        for number in range(4):
            slider.value = to - 0.1 * number

    threads = [threading.Thread(target=move, args=(slider, to)) for slider, to in ((chosen, 0.9), (rejected, 0.5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (chosen.value, rejected.value) == pytest.approx((0.6, 0.2))
    assert odds_ratio_table(chosen.value, rejected.value, 1.0) in box.children[5].value
    shown = bytes(box.children[4].value)
    chosen.value = 0.3
    chosen.value = 0.6
    assert bytes(box.children[4].value) == shown and len(shown) > 20_000  # an empty one has 2,000 bytes


def test_for_a_projector_every_text_of_the_picture_has_18_points_after_a_move_too(monkeypatch):
    monkeypatch.setenv("WORKSHOP_BIG", "1")
    picture = Picture(
        0.3, 0.2, 1.0, [(0.1, 0.1), (0.2, 0.2)], "path: a recorded run on a machine with a long name " * 2
    )
    picture.move(0.99, 0.01, 2.0)
    picture.figure.canvas.draw()
    texts = [text for text in picture.figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) * BIG_DPI / 72 >= 24  # pixels
    assert picture.figure.get_figwidth() * BIG_DPI <= 1090  # as wide as an output at 1280 × 720, so it is not shrunk
    assert all(text.get_window_extent().x0 >= 0 and text.get_window_extent().y0 >= 0 for text in texts)


def test_the_walk_goes_through_a_recorded_training(capsys):
    box = odds_ratio_explorer()
    path, source = recorded_path()
    play = box.children[3].children[0]
    assert play.max == len(path) - 1 >= 3 and "laptop" in source
    for number in range(1, len(path)):
        play.value = number
    assert (box.children[0].value, box.children[1].value) == pytest.approx(path[-1], abs=0.01)


def test_arrows_point_where_a_step_would_lead():
    """Downhill: more of the chosen answer, less of the rejected one, each by its own gradient in log-prob."""
    picture = Picture(0.3, 0.2, 1.0, [(0.1, 0.1), (0.2, 0.2)], "made up")
    _, pull, push = gradients(0.3, 0.2, 1.0)
    assert picture.arrows["chosen"].xy == pytest.approx((0.3 * math.exp(0.5 * pull), 0.2))
    assert picture.arrows["rejected"].xy == pytest.approx((0.3, 0.2 * math.exp(-0.5 * push)))
    assert picture.arrows["chosen"].xy[0] > 0.3 and picture.arrows["rejected"].xy[1] < 0.2
    assert list(picture.point.get_xdata()) == [0.3] and list(picture.point.get_ydata()) == [0.2]


def test_another_beta_draws_other_contours_and_the_same_beta_does_not():
    picture = Picture(0.3, 0.2, 1.0, [(0.1, 0.1), (0.2, 0.2)], "made up")
    contours = picture.contours
    picture.move(0.4, 0.2, 1.0)
    assert picture.contours is contours
    picture.move(0.4, 0.2, 2.0)
    assert picture.contours is not contours and len(picture.plane.collections) == 1


@pytest.mark.parametrize("point", [(0.01, 0.99, 4.0), (0.99, 0.01, 4.0), (0.99, 0.99, 0.0)])
def test_the_corners_of_the_sliders_can_be_drawn(point):
    picture = Picture(0.3, 0.2, 1.0, [(0.1, 0.1), (0.2, 0.2)], "made up")
    picture.move(*point)
    assert picture.png().startswith(b"\x89PNG")


def test_every_slider_is_quick(capsys):
    """Picture and numbers, as the sliders draw them."""
    for slider in odds_ratio_explorer().children[:3]:
        moves = (partial(setattr, slider, "value", to) for to in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
        assert_quick(*moves)


def test_a_move_changes_the_place_of_no_panel():
    """So the layout is found once."""
    picture = Picture(0.3, 0.2, 1.0, [(0.1, 0.1), (0.2, 0.2)], "made up")
    before = [axis.get_position().bounds for axis in (picture.plane, picture.bars)]
    picture.move(0.99, 0.01, 4.0)
    assert picture.png() and [axis.get_position().bounds for axis in (picture.plane, picture.bars)] == before
