"""What is watched while a model trains, and the sliders of the objective."""

import warnings
from base64 import b64decode
from types import SimpleNamespace

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from peft import get_peft_model

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.evaluation.methods import look
from helpers.runs.folder import Run
from helpers.show.notebook import draw_monitor, show_widget
from helpers.show.objective_plots import plot_loss
from helpers.show.run_plots import plot_monitor
from helpers.show.widgets import LiveMonitor
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, price_of_a_step


def train(tmp_path, tokenized, tokenizer, monitor=None, steps=5, resume=None):
    settings = {"max_steps": steps, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2}
    args = ORPOConfig(output_dir=str(tmp_path), logging_steps=1, disable_tqdm=True, report_to=[], **settings)
    trainer = ORPOTrainer(
        model=smoke_model(seed=0),
        args=args,
        train_dataset=tokenized,
        processing_class=tokenizer,
        callbacks=[monitor] if monitor else [],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def monitor_for(stage, tokenized, tokenizer) -> LiveMonitor:
    return LiveMonitor([PreferenceCollator(tokenizer.pad_token_id)(list(tokenized))], stage, every=2)


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


def test_watching_changes_nothing_in_training(tmp_path, tokenized, tokenizer):
    alone = train(tmp_path / "a", tokenized, tokenizer)
    watched = train(
        tmp_path / "b",
        tokenized,
        tokenizer,
        monitor_for(Run(tmp_path, PROFILES["smoke"]).stage("s"), tokenized, tokenizer),
    )
    for (name, left), right in zip(alone.named_parameters(), watched.parameters(), strict=True):
        assert torch.equal(left, right), name


def test_measuring_restores_mode_and_random_state(tmp_path, tokenized, tokenizer):
    monitor = monitor_for(Run(tmp_path, PROFILES["smoke"]).stage("s"), tokenized, tokenizer)
    model = smoke_model(seed=0).train()
    state = type("State", (), {"global_step": 3, "max_steps": 5})()
    monitor.started = 0.0
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
    monitor.pairs_a_step, monitor.spent_before, monitor.seconds_spent = 4, 1.0, 3.0  # 2 seconds of measurements
    monitor.pace = SimpleNamespace(first=10, done=15, since=100.0, at=112.0)
    assert monitor.pairs_a_second() == 2.0
    monitor.pace.done, monitor.pace.at = 10, 100.0
    assert monitor.pairs_a_second() == 0


@pytest.fixture
def events(monkeypatch):
    """What a notebook is shown, in order: "figure" when it appears, "update" when it changes, and lines."""
    events = []
    handle = SimpleNamespace(update=lambda image: events.append("update"))
    monkeypatch.setattr("helpers.show.widgets.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.widgets.display", lambda image, display_id: events.append("figure") or handle)
    writes = SimpleNamespace(write=events.append, flush=lambda: None)
    monkeypatch.setattr("helpers.show.widgets.sys", SimpleNamespace(stdout=writes))
    return events


def test_the_figure_stands_above_every_line_of_its_training(tmp_path, tokenized, tokenizer, events):
    """That of step 0 too, and where a training goes on."""
    stage = Run(tmp_path, PROFILES["smoke"]).stage("orpo")
    batches = [PreferenceCollator(tokenizer.pad_token_id)(list(tokenized))]
    train(stage.checkpoints, tokenized, tokenizer, LiveMonitor(batches, stage, 2, draw=len), steps=4)
    assert events[0] == "figure" and "step 0/4" in events[1] and events.count("figure") == 1
    assert events.count("update") == 2 and "step 4/4" in events[-1]
    events.clear()
    monitor = LiveMonitor(batches, stage, 2, draw=len)
    train(stage.checkpoints, tokenized, tokenizer, monitor, steps=6, resume=stage.last_checkpoint())
    assert events[0] == "figure" and "step 5/6" in events[1] and events.count("figure") == 1


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
