"""The time left, on a simulated clock: machines that are slower and faster than the recorded one."""

import pytest

from helpers.runs.progress import Progress

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
