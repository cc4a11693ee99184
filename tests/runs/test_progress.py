"""The time left, on a simulated clock: machines that are slower and faster than the recorded one, and slow steps."""

import io
import itertools
import json

import pytest

from helpers.runs import earlier
from helpers.runs.earlier import earlier_times
from helpers.runs.progress import RECENT, Bar, Pace, Progress

RECORDED = {"00": 10.0, "01": 60.0, "02": 180.0, "04": 220.0}


def simulated(factor: float, training: float = 0.6):
    """[(notebook, seconds truly left, seconds left in its training, estimate)] each second of a run.

    A machine that takes `factor` times as long; 02 and 04 train in the first `training` of their time and say so.
    """
    clock, seen = [0.0], []
    progress = Progress(RECORDED, now=lambda: clock[0])
    names = list(RECORDED)
    for name in names:
        progress.start(name)
        whole = factor * RECORDED[name]
        waiting = names[names.index(name) :]
        for second in range(int(whole)):
            steps = int(150 * second / (training * whole))
            if name in ("02", "04") and steps <= 150:
                progress.hear(f"step {steps}/150  0:10 gone")
            in_training = max(0.0, training * whole - second) if name in ("02", "04") else 0.0
            truly = whole - second + factor * sum(RECORDED[other] for other in waiting[1:])
            seen.append((name, truly, in_training, progress.left(waiting)))
            clock[0] += 1
        progress.done(name, whole)
    return seen


@pytest.mark.parametrize("factor", [2.0, 1.0, 1 / 3])
def test_after_two_notebooks_the_estimate_is_near_the_truth(factor):
    for name, truly, _, estimate in simulated(factor):
        if name in ("02", "04"):
            assert estimate == pytest.approx(truly, rel=0.15, abs=0.11 * factor * RECORDED[name]), (name, truly)


def test_a_slow_machine_is_noticed_in_its_first_notebook():
    first = [estimate for name, _, _, estimate in simulated(2.0) if name == "00"]
    assert first[-1] > 1.9 * (sum(RECORDED.values()) - RECORDED["00"]) and first[0] == sum(RECORDED.values())


@pytest.mark.parametrize("factor", [4.0, 2.0, 1.0, 1 / 3])
def test_it_never_stands_still_and_is_never_below_what_the_training_still_needs(factor):
    seen = simulated(factor)
    estimates = [round(estimate, 6) for *_, estimate in seen]
    assert all(len(set(estimates[at : at + 4])) > 1 for at in range(len(estimates) - 4))
    for _, _, in_training, estimate in seen:
        assert estimate >= 0.9 * in_training - 3 and estimate > 0


def test_a_single_notebook_that_is_overdue_follows_its_steps():
    clock = [0.0]
    progress = Progress({"02": 60.0}, now=lambda: clock[0])
    progress.start("02")
    for step in range(1, 101):
        clock[0] = 2.0 * step
        progress.hear(f"step {step}/150")
    assert progress.left_in_cell() == pytest.approx(100) and progress.left(["02"]) == pytest.approx(100)
    progress.hear("answers:  10%")
    assert progress.left_in_cell() == 0, "a new bar, of whose speed nothing is known"
    progress.next_cell()
    assert progress.left(["02"]) == pytest.approx(20), "a tenth of what it took"


def test_what_was_never_recorded_has_no_estimate():
    progress = Progress(RECORDED)
    progress.start("09")
    assert progress.left(["09", "04"]) is None


# ── counted work ────────────────────────────────────────────────────────────────────────────────────────────


def followed(parts: list[float]):
    """[(seconds truly left, those that the running part needs least, estimate)] each second of parts that take so."""
    clock, seen = [0.0], []
    pace = Pace("step", 0, len(parts), now=lambda: clock[0])
    for done, seconds in enumerate(parts):
        for second in range(int(seconds)):
            seen.append((sum(parts[done:]) - second, seconds - second, pace.left()))
            clock[0] += 1
        pace.reach(done + 1)
    assert pace.left() == 0, "all is done"
    return seen


def test_steady_steps_are_counted_down():
    for truly, _, estimate in followed([4.0] * 50)[4:]:
        assert estimate == pytest.approx(truly, abs=1.5)


def test_a_step_that_takes_longer_than_said_makes_the_estimate_longer_each_second():
    seen = followed([2.0] * 60 + [60.0] + [2.0] * 39)
    late = [estimate for _, _, estimate in seen[122:180]]
    assert all(later > before for before, later in itertools.pairwise(late))
    assert min(late) > 39 * 2.0, "what comes after it is still to come"
    after = [(truly, estimate) for truly, _, estimate in seen[182:]]
    assert all(estimate >= truly - 2 for truly, estimate in after), "and the next may take as long"
    assert after[2 * RECENT + 2][1] == pytest.approx(after[2 * RECENT + 2][0], abs=2), "until it is long ago"


def test_a_last_step_that_takes_longer_than_said_is_never_over():
    late = [estimate for *_, estimate in followed([2.0] * 9 + [90.0])[20:]]
    assert all(later > before > 0 for before, later in itertools.pairwise(late))


def test_a_machine_that_slows_down_is_followed_within_thirty_steps():
    seen = followed([2.0] * 75 + [6.0] * 75)
    for truly, _, estimate in seen[150 + 6 * RECENT :]:
        assert estimate == pytest.approx(truly, abs=2)
    estimates = [estimate for *_, estimate in seen[3:]]
    assert all(len(set(estimates[at : at + 3])) > 1 for at in range(len(estimates) - 3))


def test_the_same_number_again_is_no_part():
    clock = [0.0]
    pace = Pace("answers", 0, 100, now=lambda: clock[0])
    for second in range(1, 61):
        clock[0] = second
        pace.reach(second // 20 * 10)  # ten more in twenty seconds, said every second
    assert pace.left() == pytest.approx(70 * 2)


def test_a_bar_says_the_time_left_of_its_pace_and_a_run_follows_it():
    """Half an item counts, as an answer does of which half is said."""
    clock, progress = [0.0], Progress({"04": 10.0})
    progress.now = lambda: clock[0]
    progress.start("04")
    with Bar(total=4, desc="orpo: answers", file=io.StringIO(), now=lambda: clock[0]) as bar:
        assert "left" not in str(bar)
        for half in range(1, 6):
            clock[0] = 10.0 * half
            bar.update(0.5)
            progress.hear(str(bar))
        assert "orpo: answers:  62%" in str(bar) and "2/4" in str(bar) and str(bar).endswith("gone, 0:30 left")
        assert progress.left_in_cell() == pytest.approx(30, abs=1) and progress.left(["04"]) >= 29
        clock[0] += 7
        assert str(bar).endswith("0:23 left"), "asked again, it has counted on"
    assert list(Bar("ab", disable=True)) == ["a", "b"]


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────

CELLS = {"01": [4.0, 0.0, 16.0, 40.0], "02": [6.0, 0.0, 14.0, 90.0, 0.0, 100.0]}
WHOLE = {name: sum(cells) for name, cells in CELLS.items()}


def cell_by_cell(factor: float, known: dict | None = CELLS):
    """[(notebook, seconds truly left, seconds left in its training, estimate)].

    The cell of 90 seconds trains, that of 100 shows a bar.
    """
    clock, seen = [0.0], []
    progress = Progress(WHOLE, known, now=lambda: clock[0])
    waiting = list(CELLS)
    for name, cells in CELLS.items():
        progress.start(name, len(cells))
        for number, recorded in enumerate(cells):
            progress.next_cell()
            whole, later = factor * recorded, factor * sum(cells[number + 1 :])
            for second in range(int(whole)):
                training = whole - second if recorded == 90 else 0.0
                if training:
                    progress.hear(f"step {int(45 * second / whole)}/45")
                elif recorded == 100:
                    progress.hear(f"orpo: answers: {int(100 * second / whole)}%|██  | 9/200")
                truly = whole - second + later + factor * sum(WHOLE[other] for other in waiting[1:])
                seen.append((name, truly, training, progress.left(waiting)))
                clock[0] += 1
        assert progress.cell_seconds() == [factor * recorded for recorded in cells]
        progress.done(name, factor * WHOLE[name])
        waiting.remove(name)
    return seen


@pytest.mark.parametrize("factor", [3.0, 1.0])
def test_with_recorded_cells_the_estimate_is_near_the_truth_from_the_second_cell_on(factor):
    for name, truly, training, estimate in cell_by_cell(factor)[int(20 * factor) :]:
        assert estimate == pytest.approx(truly, rel=0.05, abs=3), (name, truly)
        assert estimate >= training - 3


def test_without_them_a_machine_three_times_slower_is_known_after_a_notebook():
    seen = [(truly, estimate) for name, truly, _, estimate in cell_by_cell(3.0, known=None) if name == "02"]
    assert all(estimate == pytest.approx(truly, rel=0.02, abs=3) for truly, estimate in seen)


def test_cells_that_a_notebook_no_longer_has_are_not_counted():
    progress = Progress(WHOLE, CELLS, now=lambda: 0.0)
    progress.start("01", cells=3)
    assert progress.pieces == [60.0] and progress.left(["01", "02"]) == 270


def test_what_a_stopped_run_had_done_does_not_make_the_machine_fast():
    clock = [0.0]
    progress = Progress(WHOLE, CELLS, now=lambda: clock[0])
    progress.start("02", cells=6, resumed=True)
    for _ in range(5):
        progress.next_cell()
    clock[0] = 10.0  # its training was nearly over
    progress.next_cell()
    assert progress.pace == 1.0 and progress.left(["02"]) == 100


# ── earlier runs ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_run_of_this_machine_wins_and_what_went_on_after_a_stop_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(earlier, "results_folder", lambda: tmp_path / "results")
    monkeypatch.setattr(earlier, "runs_folder", lambda: tmp_path / "runs")
    recorded = {"notebook_seconds": {"00": 10, "01": 60, "02": 300}, "cell_seconds": {"00": [4, 6]}}
    half = {"seconds": 30, "cells": [10, 20], "resumed": True}
    written = {
        "results/laptop-seed0.json": recorded,
        "results/laptop-support-seed0.json": {"notebook_seconds": {"00": 99}},
        "runs/20260101-laptop/state.json": {"done": {"00": {"seconds": 7}, "01": {"seconds": 50, "cells": [20, 30]}}},
        "runs/20260102-laptop/state.json": {"done": {"01": {"seconds": 55, "cells": [25, 30]}, "02": half}},
        "runs/20260103-smoke/state.json": {"done": {"00": {"seconds": 1}}},
        "runs/20260104-laptop/state.json": ["no state"],
    }
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    assert earlier_times("laptop") == ({"00": 7, "01": 55, "02": 300}, {"01": [25, 30]})
    assert "20260104-laptop/state.json" in capsys.readouterr().out
    assert earlier_times("trainium") == ({}, {})
