"""The record of the lesson's controls: the plain ratio's loss by hand, and every part on a toy run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.data.house_style import edit_request
from helpers.runs.folder import Run
from helpers.training.base_model import smoke_model
from helpers.training.profiles import PROFILES
from scripts import record_controls
from scripts.record_controls import Way


def test_few_shot_prompt_holds_rules_example_and_draft():
    messages = record_controls.few_shot(edit_request("Use this to stop a job."))
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "third person" in messages[0]["content"]
    assert messages[2]["content"] == record_controls.EXAMPLE[1]
    assert messages[3] == edit_request("Use this to stop a job.")[1]


def test_the_ratio_without_odds_by_hand(monkeypatch):
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.5])
    monkeypatch.setattr(record_controls, "pair_logps", lambda *_: (chosen, rejected))
    trainer = object.__new__(record_controls.LogProbRatioTrainer)
    trainer.args, trainer.chunked = type("Args", (), {"beta": 0.5}), True
    losses, values = trainer.pair_losses(None, None)
    by_hand = [-c + 0.5 * np.log(1 + np.exp(-(c - r))) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    assert losses.tolist() == pytest.approx(by_hand, rel=1e-6)
    assert values["rewards/margins"].tolist() == pytest.approx([1.0, -0.25])


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """The parts of a toy run, one way to train in each."""
    monkeypatch.setattr(record_controls, "results_folder", lambda: tmp_path)
    monkeypatch.setattr(
        record_controls, "CONTROLS", {"sft_accepted": Way("sft", accepted_only=True), "ratio": Way("ratio")}
    )
    monkeypatch.setattr(record_controls, "SWEEPS", {"orpo beta 2": Way("orpo", {"beta": 2.0})})
    monkeypatch.setattr(record_controls, "SWEEP_DRAFTS", 4)
    profile = replace(PROFILES["smoke"], seed=3)
    run = Run(tmp_path / "run", profile)
    run.write_results()
    run.measure_machine()
    for method in ("sft", "orpo"):
        smoke_model().save_pretrained(run.stage(method).model_path)
    return record_controls.Recording(run.path)


def test_every_part_is_recorded_once(recording, monkeypatch):
    for part in ("controls", "documentation", "sweeps"):
        getattr(recording, part)()
    record = json.loads(recording.target.read_text())
    assert recording.target.name == "controls-seed3.json" and record["seed"] == 3
    assert list(record["controls"]) == ["sft_accepted", "ratio", "few_shot"]
    assert list(record["documentation"]) == ["drafts", "rule_editor", "base", "sft", "orpo"]
    assert 0 < record["controls"]["sft_accepted"]["train_pairs"] < record["controls"]["ratio"]["train_pairs"] == 32
    for result in (record["controls"]["ratio"], record["sweeps"]["orpo beta 2"], record["documentation"]["sft"]):
        assert result["answers_n"] == result["sampled_answers_n"] == 4
        assert set(result["rules_broken"]) == {"verb", "reader", "filler", "brand", "sentence"}
    monkeypatch.setattr(record_controls.Recording, "trained_and_answered", lambda *_: pytest.fail("measured again"))
    recording.controls()
