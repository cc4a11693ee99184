"""What is watched while a model trains, and the sliders of the objective."""

import math
import warnings
from base64 import b64decode
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.evaluation.methods import look
from helpers.evaluation.scores import PairScores
from helpers.runs.folder import Run
from helpers.show.notebook import draw_monitor, show_widget
from helpers.show.objective_plots import plot_loss
from helpers.show.run_plots import plot_monitor
from helpers.show.share import SHARE
from helpers.show.widgets import LiveMonitor
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, price_of_a_step


def train(tmp_path, tokenized, tokenizer, monitor=None, steps=5, resume=None, dropout=0.0):
    settings = {"max_steps": steps, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2}
    args = ORPOConfig(output_dir=str(tmp_path), logging_steps=1, disable_tqdm=True, report_to=[], **settings)
    model = smoke_model(seed=0)
    set_seed(0)  # for the matrices of an adapter
    trainer = ORPOTrainer(
        model=model,
        args=args,
        train_dataset=tokenized,
        processing_class=tokenizer,
        callbacks=[monitor] if monitor else [],
        peft_config=LoraConfig(lora_dropout=dropout, target_modules="all-linear") if dropout else None,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def monitor_for(stage, tokenized, tokenizer) -> LiveMonitor:
    """One that measures whenever a measurement is due, however long that takes."""
    return LiveMonitor([PreferenceCollator(tokenizer.pad_token_id)(list(tokenized))], stage, every=2, share=math.inf)


def test_measures_at_the_start_on_the_beat_and_at_the_end_and_logs_every_step(tmp_path, tokenized, tokenizer, capsys):
    stage = Run(tmp_path, PROFILES["smoke"]).stage("orpo")
    monitor = monitor_for(stage, tokenized, tokenizer)
    train(stage.checkpoints, tokenized, tokenizer, monitor)
    records = stage.read_monitor()
    assert [record["step"] for record in records] == [0, 2, 4, 5]
    assert records[-1]["chosen_logp"] > records[0]["chosen_logp"]
    assert [record["step"] for record in stage.read_log()] == [1, 2, 3, 4, 5]
    assert {"loss", "rewards/margins", "logps/chosen"} <= set(stage.read_log()[0])
    assert monitor.seconds_spent > 0
    said = capsys.readouterr().out
    assert "step 5/5" in said and "left" in said and said.count("validation:") == 4


def test_watching_changes_nothing_in_training(tmp_path, tokenized, tokenizer, events):
    """Bit for bit, with a figure that moves at every step, and with LoRA's dropout drawing random numbers."""
    monitor = monitor_for(stage := Run(tmp_path, PROFILES["smoke"]).stage("orpo"), tokenized, tokenizer)
    monitor.draw = draw_monitor(stage)
    watched = train(tmp_path / "b", tokenized, tokenizer, monitor, dropout=0.3)
    assert len(stage.read_monitor()) == 4 and events.count("update") >= 1
    alone = train(tmp_path / "a", tokenized, tokenizer, dropout=0.3)
    for (name, left), right in zip(alone.named_parameters(), watched.parameters(), strict=True):
        assert torch.equal(left, right), name


def test_measuring_restores_mode_and_random_state(tmp_path, tokenized, tokenizer):
    monitor = monitor_for(Run(tmp_path, PROFILES["smoke"]).stage("orpo"), tokenized, tokenizer)
    model = smoke_model(seed=0).train()
    state = type("State", (), {"global_step": 3, "max_steps": 5})()
    before = torch.random.get_rng_state()
    monitor.measure(state, model)
    assert model.training and torch.equal(before, torch.random.get_rng_state())


def test_a_resumed_run_is_not_measured_twice_and_is_timed_from_its_step(tmp_path, tokenized, tokenizer):
    stage = Run(tmp_path, PROFILES["smoke"]).stage("orpo")
    train(stage.checkpoints, tokenized, tokenizer, monitor_for(stage, tokenized, tokenizer), steps=4)
    monitor = monitor_for(stage, tokenized, tokenizer)
    train(stage.checkpoints, tokenized, tokenizer, monitor, steps=6, resume=stage.last_checkpoint())
    assert monitor.first_step == 4
    assert [record["step"] for record in stage.read_monitor()] == [0, 2, 4, 6]


def test_recorded_curves_are_shown_beside_those_of_another_stage(tmp_path, tokenized, tokenizer, monkeypatch):
    run, shown = Run(tmp_path, PROFILES["smoke"]), []
    first, other = run.stage("orpo"), run.stage("variants/orpo-beta-0.1")
    for stage in (first, other):
        stage.write_monitor({"step": 0, "chosen_logp": -1.0, "rejected_logp": -2.0})
    monkeypatch.setattr("helpers.show.widgets.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.widgets.display", shown.append)
    drawn = []
    monkeypatch.setattr(
        "helpers.show.notebook.plot_monitor",
        lambda by, faint, losses: drawn.append((list(by), faint, losses)) or Figure(),
    )
    other.log({"step": 1, "loss": 2.0})
    LiveMonitor([], other, every=2, draw=draw_monitor(other, run.stage("sft"), first, other)).show_recorded()
    ((by, faint, losses),) = drawn
    assert (by, faint) == (["orpo", "variants/orpo-beta-0.1"], ("orpo",)) and shown[0].data.startswith(b"\x89PNG")
    assert losses[other.name] == [{"step": 1, "loss": 2.0}] and losses["orpo"] == []


@pytest.mark.parametrize(
    ("stage", "label"),
    [
        ("orpo", "ORPO"),
        ("variants/orpo-beta-0.1", "ORPO beta 0.1"),
        ("variants/sft-learning_rate-1e-05-steps-60", "SFT learning_rate 1e-05 steps 60"),
    ],
)
def test_a_stage_is_labelled_by_its_method_and_settings(stage, label):
    assert look(stage).label == label


def test_where_a_widget_cannot_be_shown_its_text_stands(monkeypatch):
    shown = []
    monkeypatch.setattr("helpers.show.notebook.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.notebook.display", lambda bundle, metadata, raw: shown.append((bundle, metadata)))
    show_widget(widgets.HTML("x"), "as text")
    (bundle, notes), *_ = shown
    assert bundle["text/plain"] == "as text" and "application/vnd.jupyter.widget-view+json" in bundle and not notes
    show_widget(widgets.HTML("x"), "as text", b"a picture", "what it shows")
    bundle, notes = shown[1]
    assert b64decode(bundle["image/png"]) == b"a picture" and notes == {"image/png": {"alt": "what it shows"}}


def records(*steps):
    return [{"step": step, "chosen_logp": -1.0, "rejected_logp": -2.0} for step in steps]


def test_the_first_measurement_stands_on_whole_steps_from_zero():
    for axis in plot_monitor({"sft": records(0)}).axes:
        low, high = axis.get_xlim()
        assert -0.1 < low <= 0 and {tick for tick in axis.get_xticks() if low <= tick <= high} == {0, 1}


def test_an_earlier_stage_is_faint_and_keeps_its_label():
    left, _ = plot_monitor({"sft": records(0, 10), "orpo": records(0)}, faint=("sft",)).axes
    strength = {line.get_label(): line.get_alpha() for line in left.lines}
    assert strength["SFT chosen"] < 0.5 and strength["ORPO chosen"] == 1


def test_contours_of_the_loss_are_spread_over_the_plane():
    """Between any two neighbours lies a tenth of the plane, so that the middle is as full as the edge."""
    (contours,) = (part for part in plot_loss(1.5).axes[0].collections if hasattr(part, "levels"))
    assert len(contours.levels) >= 7 and len(set(np.diff(contours.levels).round(6))) > 1


def test_the_toy_model_is_trained_and_saved_without_a_warning(tmp_path):
    """It comes from no folder, so PEFT has none to look into for its vocabulary."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        get_peft_model(smoke_model(), lora(PROFILES["smoke"])).save_pretrained(tmp_path)


def test_a_toy_run_claims_nothing():
    assert PROFILES["laptop"].lesson("It learned.") == "It learned."
    assert "learned" not in PROFILES["smoke"].lesson("It learned.")


def test_a_step_is_timed_twice_after_a_warm_up_and_the_smaller_counts(tmp_path, tokenized, tokenizer, monkeypatch):
    seconds = iter([0, 90, 0, 90, 0, 2, 0, 3, 0, 50, 0, 1])
    monkeypatch.setattr("helpers.training.recipe.time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    args = ORPOConfig(output_dir=str(tmp_path), max_length=128, report_to=[])
    trainer = ORPOTrainer(model=smoke_model(seed=0), args=args, train_dataset=tokenized, processing_class=tokenizer)
    pairs = load_preferences("aws-api", "train", limit=2)
    (_, textbook), (_, ours) = price_of_a_step(trainer, pairs).values()
    assert (textbook, ours) == (2, 1)


def test_the_price_is_of_as_many_pairs_at_once_as_in_training_and_the_loss_is_the_same(tmp_path, tokenized, tokenizer):
    pairs, losses = load_preferences("aws-api", "train", limit=3), []
    for together in (1, 2, 8):
        settings = {"per_device_train_batch_size": together, "max_length": 128, "report_to": []}
        args = ORPOConfig(output_dir=str(tmp_path), **settings)
        trainer = ORPOTrainer(model=smoke_model(seed=0), args=args, train_dataset=tokenized, processing_class=tokenizer)
        seen = []
        trainer._prepare_inputs = lambda batch, seen=seen: seen.append(len(batch["row"])) or batch
        losses += [loss for loss, _ in price_of_a_step(trainer, pairs).values()]
        assert max(seen) == min(together, 3)
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-5)


def test_the_line_says_how_many_pairs_a_second_are_trained_without_the_measurements(tmp_path):
    monitor = LiveMonitor([], Run(tmp_path, PROFILES["smoke"]).stage("orpo"), every=2)
    monitor.pairs_a_step, monitor.spent_before, monitor.share.spent = 4, 1.0, 3.0  # 2 seconds of measurements
    monitor.pace = SimpleNamespace(first=10, done=15, since=100.0, at=112.0)
    assert monitor.pairs_a_second() == 2.0
    monitor.pace.done, monitor.pace.at = 10, 100.0
    assert monitor.pairs_a_second() == 0


@pytest.fixture
def events(monkeypatch):
    """What a notebook is shown, in order: "figure" when it appears, "update" when it moves, "picture", and lines."""
    events = []

    def put(shown, **how) -> SimpleNamespace:
        kind = "picture" if hasattr(shown, "data") else "update" if "figure" in events else "figure"
        events.append(kind)
        return SimpleNamespace(update=put)

    monkeypatch.setattr("helpers.show.widgets.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.live_figure.display", put)
    monkeypatch.setattr("helpers.show.widgets.FRAME_APART", 0.0)
    writes = SimpleNamespace(write=events.append, flush=lambda: None)
    monkeypatch.setattr("helpers.show.widgets.sys", SimpleNamespace(stdout=writes))
    return events


def test_the_figure_stands_above_every_line_of_its_training(tmp_path, tokenized, tokenizer, events):
    """That of step 0 too, and where a training goes on; at the end a picture is kept."""
    stage = Run(tmp_path, PROFILES["smoke"]).stage("orpo")
    for steps, resume in ((4, False), (6, True)):
        monitor = monitor_for(stage, tokenized, tokenizer)
        monitor.draw = draw_monitor(stage)
        train(stage.checkpoints, tokenized, tokenizer, monitor, steps, stage.last_checkpoint() if resume else None)
        first = "step 5/6" if resume else "step 0/4"
        assert events[0] == "figure" and events[-1] == "picture" and events.count("figure") == 1
        assert first in next(event for event in events if event.startswith("\r"))
        assert events.count("update") == (2 if resume else 4), "at every step"
        events.clear()


def test_the_figure_shows_the_loss_of_every_step_that_was_logged(tmp_path, tokenized, tokenizer, monkeypatch):
    stage, figures = Run(tmp_path, PROFILES["smoke"]).stage("orpo"), []
    train(stage.checkpoints, tokenized, tokenizer, monitor_for(stage, tokenized, tokenizer), steps=3)
    monkeypatch.setattr("helpers.show.notebook.figure_image", lambda figure, alt: figures.append((figure, alt)))
    draw_monitor(stage)(stage.read_monitor())
    ((figure, alt),) = figures
    (line,) = figure.axes[2].lines
    logged = [(record["step"], record["loss"]) for record in stage.read_log()]
    assert list(zip(*line.get_data(), strict=True)) == logged and len(logged) == 3
    assert figure.axes[2].get_title() == "Training loss" and "loss" in alt


def test_before_the_first_step_there_is_no_loss_and_without_losses_no_panel():
    assert len(plot_monitor({"sft": records(0)}).axes) == 2
    *_, empty = plot_monitor({"sft": records(0)}, losses={"sft": []}).axes
    assert not empty.lines and not list(empty.get_yticks())


def test_pairs_a_second_stand_in_the_line_of_a_step(tmp_path, tokenized, tokenizer, capsys):
    stage = Run(tmp_path, PROFILES["smoke"]).stage("orpo")
    train(stage.checkpoints, tokenized, tokenizer, monitor_for(stage, tokenized, tokenizer), steps=3)
    lines = capsys.readouterr().out.split("\r")
    assert [line.count(" pairs/s") for line in lines if line.startswith("step 1/3")] == [1]
    assert not any(" pairs/s" in line for line in lines if "validation:" in line)


# ── what watching may take ──────────────────────────────────────────────────────────────────────────────────


class Simulated:
    """A training by a clock that nobody waits for: a step, a measurement and a frame take so many seconds each."""

    def __init__(self, stage, step: float, measurement: float, frame: float = 0.0, every: int = 2):
        self.time, self.step, self.frames, self.stage = 0.0, step, [], stage
        self.monitor = LiveMonitor([], stage, every, now=lambda: self.time)
        self.monitor.draw = SimpleNamespace(begin=lambda: None, keep=lambda *_: None, move=self.move)
        self.costs = iter(lambda: measurement, None), frame

    def move(self, records: list, log: list) -> None:
        self.frames.append((len(records), len(log)))
        self.time += self.costs[1]

    def score(self, *_) -> PairScores:
        self.time += next(self.costs[0])
        return PairScores(np.array([-1.0]), np.array([-2.0]))

    def train(self, steps: int) -> float:
        """Take the steps; the seconds that watching took for each of training."""
        args = SimpleNamespace(train_batch_size=4, gradient_accumulation_steps=1, world_size=1)
        state, control = SimpleNamespace(global_step=0, max_steps=steps), SimpleNamespace(should_log=True)
        self.monitor.on_train_begin(args, state, control)
        for state.global_step in range(1, steps + 1):
            self.time += self.step
            self.monitor.on_step_end(args, state, control)
            self.monitor.on_log(args, state, control, {"loss": 1.0})
        return (self.time - steps * self.step) / (steps * self.step)

    @property
    def steps_measured(self) -> list[int]:
        return [record["step"] for record in self.stage.read_monitor()]


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    def make(*costs, **how) -> Simulated:
        made = Simulated(Run(tmp_path, PROFILES["smoke"]).stage("sft"), *costs, **how)
        monkeypatch.setattr("helpers.show.widgets.score_pairs", made.score)
        return made

    monkeypatch.setattr("helpers.show.widgets.can_chunk", lambda model: True)
    monkeypatch.setattr("helpers.show.widgets.refuse_trained", lambda model: None)
    return make


@pytest.mark.parametrize(
    ("step", "measurement", "frame"), [(1.1, 0.3, 0.003), (1.1, 2.2, 0.003), (0.5, 0.02, 0.01), (4.0, 0.9, 0.5)]
)
def test_watching_takes_no_more_than_its_share(simulated, step, measurement, frame):
    """The laptop's costs, the 24 pairs of old, a fast machine, and a slow one that draws slowly."""
    training = simulated(step, measurement, frame)
    assert 0 < training.train(300) <= SHARE + 1e-9
    assert training.steps_measured[0] == 0 and training.steps_measured[-1] == 300


def test_where_there_is_time_the_curves_move_at_every_second_step_and_the_loss_at_every_step(simulated):
    training = simulated(1.0, 0.02, 0.002)
    training.train(100)
    assert training.steps_measured == [0, *range(2, 101, 2)]
    assert [log for _, log in training.frames] == list(range(101))


def test_on_the_laptop_a_measurement_is_made_at_least_every_twentieth_step(simulated):
    training = simulated(1.1, 0.27, 0.003)
    training.train(150)
    gaps = np.diff(training.steps_measured)
    assert max(gaps) <= 20 and min(gaps[:-1]) >= 2
    assert len(training.frames) == 150, "at every step; at the last the picture follows"


def test_a_measurement_that_came_out_dear_is_saved_again(simulated):
    """Another program took the processor for a while: what one measurement overran, the next ones wait for."""
    training = simulated(1.0, 0.05)
    training.costs = iter([0.05, 0.05, 0.8, *[0.05] * 1000]), 0.0
    assert training.train(300) <= SHARE + 1e-9
    first, second = training.steps_measured[2:4]
    assert second - first > 20, "it waits"
    assert max(np.diff(training.steps_measured[4:-1])) < 10, "and goes on"


def test_few_measurements_leave_a_line_and_the_last_one_does(simulated, capsys):
    training = simulated(1.0, 0.001)
    training.train(100)
    said = capsys.readouterr().out
    kept = [line.rsplit("\r", 1)[-1] for line in said.splitlines()]
    assert len(training.steps_measured) == 51
    assert [int(line.split("/")[0].split()[-1]) for line in kept if "validation" in line] == list(range(0, 101, 10))


def test_of_a_training_too_short_for_it_only_the_two_ends_are_measured(simulated):
    training = simulated(0.02, 0.02, 0.005)
    training.train(4)
    assert training.steps_measured == [0, 4]
