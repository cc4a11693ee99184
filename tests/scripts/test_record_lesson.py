"""The record of the house-style lesson: its baselines and measures by hand, and a whole seed of the toy model."""

import json
import sys

import numpy as np
import pytest
from datasets import Dataset

from helpers.data.house_style import request
from scripts import record_lesson


@pytest.mark.parametrize(
    ("draft", "edited"),
    [
        ("Deletes an index.", "Deletes an index."),
        ("This operation deletes the given AWS index.", "Deletes the index."),
        ("Use this API to list the indexes in your account. See the guide for details.", "Lists the indexes."),
        ("Used to stop a job (if any) for you.", "Stops a job."),
        ("Lists the Amazon Web Services jobs that you own.", "Lists the jobs."),
        ("Use this API to modify a job.", "Modifys a job."),  # a few lines know no grammar: this is their limit
    ],
)
def test_rule_editor(draft, edited):
    assert record_lesson.rule_editor(draft) == edited


def test_judge_and_paired_difference_by_hand():
    rows = Dataset.from_dict({"summary": ["Deletes an index."] * 4, "service": ["a", "b", "c", "d"]})
    right, wordy, wrong = "Deletes an index.", "Deletes the given index.", "Creates a job."
    measures, a = record_lesson.judge([right, wordy, wordy, wrong], rows)
    assert measures["answers_n"] == 4
    assert (measures["answers_right"], measures["facts_hold"]) == (0.25, 0.75)
    assert measures["rules_broken"] == {"verb": 0, "reader": 0, "filler": 0.5, "brand": 0, "sentence": 0}
    _, b = record_lesson.judge([right, right, wordy, right], rows)
    gain = record_lesson.paired(a, b, list(rows["service"]))
    assert (gain["answers_right"], gain["facts_hold"]) == (0.5, 0.25)
    assert gain["answers_right_ci95"][0] <= 0.5 <= gain["answers_right_ci95"][1]


def test_few_shot_prompt_holds_rules_example_and_draft():
    messages = record_lesson.few_shot(request("Use this to stop a job."))
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "third person" in messages[0]["content"]
    assert messages[2]["content"] == record_lesson.SHOT[1]
    assert messages[3] == request("Use this to stop a job.")[1]


def test_a_whole_seed_of_the_toy_model(tmp_path, monkeypatch):
    arguments = ["record_lesson.py", "--profile", "smoke", "--seeds", "3", "--drafts", "4", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    record_lesson.main()
    record = json.loads((tmp_path / "lesson-seed3.json").read_text())
    assert list(record["methods"]) == [
        *("base", "base, rules and an example in the prompt", "sft", "sft on accepted answers", "orpo")
    ]
    accepted = record["methods"]["sft on accepted answers"]["train_rows"]
    assert accepted == pytest.approx(record["chosen_accepted"] * record["train_pairs"])
    for key in ("made, greedy", "made, sampled", "documentation, greedy", "documentation, sampled"):
        right = [record["methods"][method][key]["answers_right"] for method in ("sft", "orpo")]
        assert record["orpo_minus_sft"][key]["answers_right"] == pytest.approx(np.subtract(*right[::-1]))
        assert len(record["examples"][key]["draft"]) == len(record["examples"][key]["orpo"]) == 4
