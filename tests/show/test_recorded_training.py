"""A recorded training drawn again: its pace, its label, and what may be recorded."""

import pytest
from matplotlib.figure import Figure

from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.show import replay
from helpers.training.profiles import PROFILES

RUN = recorded_runs("laptop")[0]


@pytest.fixture
def losses_drawn():
    """The losses of each figure."""
    return []


@pytest.fixture
def drawn(monkeypatch, losses_drawn):
    """What is drawn in a notebook: (the measurements of each figure, by method; its label)."""
    drawn, handle = [], type("Handle", (), {"update": lambda self, image: None})()
    monkeypatch.setattr("helpers.show.recorded_training.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.recorded_training.display", lambda image, display_id: handle)
    monkeypatch.setattr(
        "helpers.show.recorded_training.plot_monitor",
        lambda by, faint, losses: drawn.append([by, faint]) or losses_drawn.append(losses) or Figure(),
    )
    monkeypatch.setattr("helpers.show.recorded_training.stamp", lambda figure, text: drawn[-1].append(text) or figure)
    return drawn


def test_it_takes_the_recorded_seconds_divided_by_the_speed(drawn):
    waits = []
    replay(RUN, "orpo", speed=10, wait=waits.append)
    seconds = [record["seconds"] for record in RUN["monitor"]["orpo"]]
    assert sum(waits) == pytest.approx((seconds[-1] - seconds[0]) / 10)
    assert [len(by["orpo"]) for by, _, _ in drawn] == list(range(1, len(seconds) + 1))
    assert all(list(by) == ["sft", "orpo"] and faint == ("sft",) for by, faint, _ in drawn)


def test_the_figure_says_where_and_when_it_was_recorded(drawn):
    replay(wait=lambda seconds: None)
    assert all(label.startswith("recorded on AMD EPYC, 2 cores") and RUN["date"][:10] in label for *_, label in drawn)


def test_an_interrupt_jumps_to_the_end(drawn):
    def stop(seconds: float) -> None:
        if drawn:
            raise KeyboardInterrupt

    replay(RUN, wait=stop)
    assert [len(by["orpo"]) for by, *_ in drawn] == [1, len(RUN["monitor"]["orpo"])]


def test_a_stage_of_a_run_of_ones_own_is_drawn(tmp_path, drawn):
    stage = Run(tmp_path / "run", PROFILES["smoke"]).stage("sft")
    stage.run.write_results(machine=RUN["machine"], date=RUN["date"])
    with pytest.raises(ValueError, match="sft has no measurements yet"):
        replay(stage)
    for record in RUN["monitor"]["sft"][:2]:
        stage.write_monitor(record)
    replay(stage, wait=lambda seconds: None)
    assert [len(by["sft"]) for by, *_ in drawn] == [1, 2] and "recorded on AMD EPYC" in drawn[0][2]


def test_losses_that_were_recorded_grow_with_the_measurements(drawn, losses_drawn):
    losses = {name: [{"step": step, "loss": 1.0} for step in range(1, 151)] for name in ("sft", "orpo")}
    replay(RUN | {"losses": losses}, wait=lambda seconds: None)
    steps = [record["step"] for record in RUN["monitor"]["orpo"]]
    assert [len(each["orpo"]) for each in losses_drawn] == steps and all(
        len(each["sft"]) == 150 for each in losses_drawn
    )


def test_a_terminal_shows_lines_and_where_they_are_from(capsys):
    replay(RUN, wait=lambda seconds: None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("step 150  validation: chosen") and lines[-1].startswith("recorded on")


@pytest.mark.parametrize("wrong", [{"speed": 0}, {"speed": -1}, {"method": "ppo"}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match=r"speed is|'ppo' is not recorded: choose one of sft, orpo"):
        replay(RUN, **wrong)
