"""A recorded training drawn again: its pace, its label, and what may be recorded."""

import functools

import pytest

from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.show.notebook import draw_monitor
from helpers.show.recorded_training import replay, replay_speed
from helpers.show.run_plots import plot_monitor
from helpers.show.widgets import LiveMonitor
from helpers.training.profiles import PROFILES

RUN = recorded_runs("laptop")[0] | {"losses": {}}  # as older records are; a test below adds them


@pytest.fixture
def losses_drawn():
    """The losses of each figure."""
    return []


@pytest.fixture
def kept():
    """The labels below the pictures that stay."""
    return []


@pytest.fixture
def drawn(monkeypatch, losses_drawn, kept):
    """What is drawn in a notebook: (the measurements of each figure, by method; the faint ones; its label)."""
    drawn = []

    class Figure:
        def __init__(self, alt: str):
            self.alt = alt

        def move(self, panels, label: str) -> None:
            drawn[-1].append(label)

        def keep(self, picture) -> None:
            assert picture.data.startswith(b"\x89PNG")

    def panels(by, faint, losses) -> list:
        drawn.append([by, faint])
        losses_drawn.append(losses)
        return []

    monkeypatch.setattr("helpers.show.recorded_training.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.recorded_training.LiveFigure", Figure)
    monkeypatch.setattr("helpers.show.recorded_training.monitor_panels", panels)
    monkeypatch.setattr("helpers.show.recorded_training.stamp", lambda figure, text: kept.append(text) or figure)
    return drawn


def test_it_takes_the_recorded_seconds_divided_by_the_speed(drawn):
    waits = []
    replay(RUN, "orpo", speed=10, wait=waits.append)
    seconds = [record["seconds"] for record in RUN["monitor"]["orpo"]]
    assert sum(waits) == pytest.approx((seconds[-1] - seconds[0]) / 10)
    assert [len(by["orpo"]) for by, _, _ in drawn] == list(range(1, len(seconds) + 1))
    assert all(list(by) == ["sft", "orpo"] and faint == ("sft",) for by, faint, _ in drawn)


def test_the_figure_says_where_and_when_it_was_recorded(drawn, kept):
    replay(wait=lambda seconds: None)
    labels = [*(label for *_, label in drawn), *kept]
    assert len(kept) == 1
    assert all(label.startswith("recorded on AMD EPYC, 2 cores") and RUN["date"][:10] in label for label in labels)


def test_an_interrupt_jumps_to_the_end(drawn, kept):
    def stop(seconds: float) -> None:
        if drawn:
            raise KeyboardInterrupt

    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "helpers.show.recorded_training.plot_monitor", lambda *what: figures.append(what) or plot_monitor(*what)
        )
        replay(RUN, wait=stop)
    assert [len(by["orpo"]) for by, *_ in drawn] == [1] and len(kept) == 1
    ((by, faint, _),) = figures
    assert by["orpo"] == RUN["monitor"]["orpo"] and faint == ("sft",)


def test_a_stage_of_a_run_of_ones_own_is_drawn(tmp_path, drawn):
    stage = Run(tmp_path / "run", PROFILES["smoke"]).stage("sft")
    stage.run.write_results(machine=RUN["machine"], date=RUN["date"])
    with pytest.raises(ValueError, match="sft has no measurements yet"):
        replay(stage)
    for record in RUN["monitor"]["sft"][:2]:
        stage.write_monitor(record)
    replay(stage, wait=lambda seconds: None)
    assert [len(by["sft"]) for by, *_ in drawn] == [1, 2] and "recorded on AMD EPYC" in drawn[0][2]


def test_recorded_losses_are_drawn_step_by_step_between_the_measurements(drawn, losses_drawn):
    losses = {name: [{"step": step, "loss": 1.0} for step in range(1, 151)] for name in ("sft", "orpo")}
    waits = []
    replay(RUN | {"losses": losses}, speed=10, wait=waits.append)
    assert [len(each["orpo"]) for each in losses_drawn] == list(range(151))
    assert all(len(each["sft"]) == 150 for each in losses_drawn)
    measured = [record["step"] for record in RUN["monitor"]["orpo"]]
    assert [len(by["orpo"]) for by, *_ in drawn] == [sum(at <= step for at in measured) for step in range(151)]
    seconds = [record["seconds"] for record in RUN["monitor"]["orpo"]]
    assert sum(waits) == pytest.approx((seconds[-1] - seconds[0]) / 10) and max(waits) < 0.3


@pytest.fixture
def finished(tmp_path):
    """A stage that is trained, and SFT's beside it, as a `make run` of another day left them."""
    run = Run(tmp_path / "run", PROFILES["smoke"])
    run.write_results(machine=RUN["machine"], date=RUN["date"])
    for name in ("sft", "orpo"):
        for record in RUN["monitor"][name]:
            run.stage(name).write_monitor(record)
    return run


def test_workshop_replay_draws_a_finished_training_again_in_at_most_15_seconds(finished, drawn, monkeypatch):
    """In the cell that trains, beside SFT as that cell draws it, and with where it is from; without it at once."""
    stage, waits, shown = finished.stage("orpo"), [], []
    monkeypatch.setattr("helpers.show.widgets.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.widgets.display", shown.append)
    monkeypatch.setattr("helpers.show.widgets.replay", functools.partial(replay, wait=waits.append))
    monitor = LiveMonitor([], stage, every=2, draw=draw_monitor(stage, finished.stage("sft"), stage))
    monitor.show_recorded()
    assert len(shown) == 1 and not drawn
    monkeypatch.setenv("WORKSHOP_REPLAY", "1")
    monitor.show_recorded()
    assert len(shown) == 1 and len(drawn) == len(RUN["monitor"]["orpo"]) and sum(waits) <= 15
    assert all(list(by) == ["sft", "orpo"] and faint == ("sft",) for by, faint, _ in drawn)
    assert all(label.startswith("recorded on AMD EPYC") for *_, label in drawn)
    stage.write_monitor(RUN["monitor"]["orpo"][-1] | {"step": 3000, "seconds": 3600.0})
    assert 3600 / replay_speed(stage) == pytest.approx(15)


def test_another_value_of_workshop_replay_is_refused(finished, monkeypatch):
    monkeypatch.setenv("WORKSHOP_REPLAY", "fast")
    with pytest.raises(ValueError, match="WORKSHOP_REPLAY is 'fast': give 1"):
        replay_speed(finished.stage("sft"))


def test_a_terminal_shows_lines_and_where_they_are_from(capsys):
    replay(RUN, wait=lambda seconds: None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("step 150  validation: chosen") and lines[-1].startswith("recorded on")


@pytest.mark.parametrize("wrong", [{"speed": 0}, {"speed": -1}, {"method": "ppo"}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match=r"speed is|'ppo' is not recorded: choose one of sft, orpo"):
        replay(RUN, **wrong)
