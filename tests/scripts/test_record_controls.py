"""The record of the lesson's controls: the plain ratio's loss by hand, every part on a toy run, and what is shown."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict

from helpers.data import load_preferences, tokenize_preferences
from helpers.data.house_style import check_answer, edit_request
from helpers.evaluation.baselines import edited_drafts
from helpers.files import REPOSITORY
from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.show.lesson_plots import plot_failures, plot_style_control
from helpers.training.base_model import smoke_model
from helpers.training.profiles import PROFILES
from scripts import failures, lesson_parts, lesson_tables, record_controls, recording
from scripts.recording import Way


def test_few_shot_prompt_holds_rules_example_and_draft():
    messages = record_controls.few_shot(edit_request("Use this to stop a job."))
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "third person" in messages[0]["content"]
    assert messages[2]["content"] == record_controls.EXAMPLE[1]
    assert messages[3] == edit_request("Use this to stop a job.")[1]


def test_the_ratio_without_odds_by_hand(monkeypatch):
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.5])
    monkeypatch.setattr(recording, "pair_logps", lambda *_: (chosen, rejected))
    trainer = object.__new__(recording.LogProbRatioTrainer)
    trainer.args, trainer.chunked = type("Args", (), {"beta": 0.5}), True
    losses, values = trainer.pair_losses(None, None)
    by_hand = [-c + 0.5 * np.log(1 + np.exp(-(c - r))) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    assert losses.tolist() == pytest.approx(by_hand, rel=1e-6)
    assert values["rewards/margins"].tolist() == pytest.approx([1.0, -0.25])


def test_two_ways_to_spoil_tokenised_pairs(pairs, tokenizer):
    rows = tokenize_preferences(pairs, tokenizer, 128)
    other, longer = failures.swapped(rows), failures.run_together(rows)
    for side, wrong in (("chosen", "rejected"), ("rejected", "chosen")):
        assert other[f"{side}_labels"] == rows[f"{wrong}_labels"] and other[f"{side}_cut"] == rows[f"{wrong}_cut"]
    assert other["prompt_length"] == rows["prompt_length"]
    answers = [answer[0]["content"] for answer in pairs["chosen"]]
    for row, answer, following in zip(longer, answers, [*answers[1:], answers[0]], strict=True):
        labels = row["chosen_labels"]
        assert tokenizer.decode([label for label in labels if label >= 0]) == f"{answer}{following}"
        assert row["chosen_input_ids"][-1] == labels[-1] != tokenizer.eos_token_id
        assert row["length"] == max(len(labels), len(row["rejected_input_ids"]))


def quarter(seed: int) -> DatasetDict:
    """A few pairs in place of a second split."""
    parts = {split: load_preferences(split=split, limit=40, seed=seed) for split in ("train", "heldout")}
    return DatasetDict(parts)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(record, recording) of every part of a toy run, one way to train in each."""
    folder, patch = tmp_path_factory.mktemp("toy"), pytest.MonkeyPatch()
    patch.setattr(recording, "results_folder", lambda: folder)
    ways = {"sft_accepted": Way("sft", accepted_only=True), "ratio": Way("ratio")}
    patch.setattr(record_controls, "CONTROLS", ways)
    patch.setattr(record_controls, "SWEEPS", record_controls.USED | {"orpo beta 2": Way("orpo", {"beta": 2.0})})
    patch.setattr(record_controls, "build_house_style", quarter)
    for module, name in ((record_controls, "SWEEP_DRAFTS"), (failures, "DRAFTS")):
        patch.setattr(module, name, 4)
    run = Run(folder / "run", replace(PROFILES["smoke"], seed=3))
    run.write_results()
    run.measure_machine()
    asked = load_preferences(split="heldout", limit=PROFILES["smoke"].heldout_pairs).select(range(4))
    for method in ("base", "sft", "orpo"):
        smoke_model().save_pretrained(run.stage(method).model_path)
        stored = {"chosen_logp": [], "rejected_logp": [], "groups": None, "sampled": [""] * 4}
        run.stage(method).write_file("heldout.json", stored | {"answers": list(asked["summary"])})
        run.store_result(method, {})
    made = recording.Recording(run.path)
    for part in record_controls.PARTS.values():
        part(made)
    yield json.loads(made.target.read_text()), made
    patch.undo()


def test_every_part_is_recorded_once(recorded, monkeypatch):
    record, made = recorded
    assert made.target.name == "controls-seed3.json" and record["seed"] == 3
    editors = ["rule_editor", "word_editor"]
    assert list(record["controls"]) == [*editors, "sft_accepted", "ratio", "few_shot"]
    assert list(record["documentation"]) == [*editors, "drafts", "base", "sft", "orpo"]
    assert list(record["sweeps"]) == ["sft", "orpo", "orpo beta 2"]
    assert 0 < record["controls"]["sft_accepted"]["train_pairs"] < record["controls"]["ratio"]["train_pairs"] == 32
    for result in (record["controls"]["ratio"], record["sweeps"]["orpo beta 2"], record["documentation"]["sft"]):
        assert result["answers_n"] == result["sampled_answers_n"] == 4
        assert set(result["rules_broken"]) == {"verb", "reader", "filler", "brand", "sentence"}
    for result in record["wording"].values():  # the answers are the summaries themselves, or nothing
        assert (result["word_for_word"], result["sampled_word_for_word"]) == (1, 0)
    assert "word_for_word" in record["controls"]["ratio"] and "word_for_word" not in record["documentation"]["sft"]
    monkeypatch.setattr(made, "trained_and_answered", lambda *_, **__: pytest.fail("measured again"))
    record_controls.controls(made)
    record_controls.sweeps(made)


def test_each_measurement_has_its_own_day_and_machine(recorded):
    record, _ = recorded
    parts = ("controls", "wording", "documentation", "sweeps", "second_split", "failures")
    assert all({"date", "machine", "versions"} <= set(entry) for part in parts for entry in record[part].values())
    later = {"date": "2030-01-02T00:00:00", "machine": record["machine"] | {"cpu": "Another"}, "settings": {}}
    first, second = ({"date": "2029-12-31", "machine": record["machine"], "seed": 3, "x": {}} for _ in range(2))
    first["x"], second["x"] = {"old": {}, "new": later}, {"old": {}}
    told = lesson_tables.about([first, second], "x")
    ours = f"{record['machine']['cpu']}, {record['machine']['cores']} cores, no accelerator"
    assert told.endswith(f" · {ours} · 2029-12-31 and {ours.replace(record['machine']['cpu'], 'Another')} · 2030-01-02")


def test_a_sweep_holds_its_settings_and_the_style_control(recorded):
    sweeps = recorded[0]["sweeps"]
    assert sweeps["orpo beta 2"]["settings"] == {"steps": 4, "learning_rate": 1e-3, "beta": 2.0}
    assert "style" not in sweeps["orpo beta 2"] and "beta" not in sweeps["sft"]["settings"]
    for method in ("sft", "orpo"):
        style = sweeps[method]["style"]
        assert [point["step"] for point in style] == [0, 2, 4]
        assert style[0] == pytest.approx(sweeps["sft"]["style"][0], abs=1e-4), "both start from one base"
    assert len({point["rejected_alone"] for point in sweeps["sft"]["style"]}) == 3


def test_the_second_split_is_paired(recorded):
    (found,) = recorded[0]["second_split"].values()
    assert {"sft", "orpo", "rule_editor", "word_editor", "orpo_minus_sft"} <= set(found)
    assert found["heldout_services"] <= 4 and found["sft"]["answers_n"] == 4
    for key in ("answers_right", "sampled_facts_hold", "word_for_word"):
        difference = found["orpo"][key] - found["sft"][key]
        assert found["orpo_minus_sft"][key] == pytest.approx(difference)
        assert len(found["orpo_minus_sft"][f"{key}_ci95"]) == 2


def test_the_gallery_has_a_curve_and_two_answers_of_each_training(recorded):
    found = recorded[0]["failures"]
    assert list(found) == [failures.RIGHT, *failures.FAILURES] and len(failures.FAILURES) == 4
    assert found["learning_rate"]["settings"]["learning_rate"] == 30 * PROFILES["laptop"].learning_rate
    assert found["beta"]["settings"]["beta"] == 100 * PROFILES["laptop"].beta
    for entry in found.values():
        assert len(entry["examples"]) == 2 and [point["step"] for point in entry["curve"]] == [1, 2, 3, 4]
        assert 0 <= entry["answer_tokens"] <= 2 * PROFILES["smoke"].max_new_tokens + 4  # read again
    start = {name: found[name]["curve"][0] for name in ("nothing", "swapped", "no_end")}
    assert start["swapped"]["chosen_logp"] == pytest.approx(start["nothing"]["rejected_logp"], abs=1e-3)
    assert start["no_end"]["chosen_logp"] != pytest.approx(start["nothing"]["chosen_logp"], abs=1e-3)


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────


def test_tables_of_the_toy_record(recorded):
    record, _ = recorded
    sweep = lesson_parts.sweeps_table([record]).splitlines()
    assert [line.split(" | ")[1] for line in sweep[2:5]] == ["**SFT**", "**ORPO**", "ORPO"]
    assert sweep[3].startswith("| 3 | **ORPO** | **1** | **0.001** | **") and "| 2 | 0.001 |" in sweep[4]
    assert any(line.startswith("ORPO, seed 3: most sampled answers") for line in sweep)
    style = lesson_parts.style_part([record])
    ends = [record["sweeps"][method]["style"][at] for method, at in (("sft", 0), ("sft", -1), ("orpo", -1))]
    for end in ends:
        assert f"| {end['rejected_logp']:.2f} | {end['rejected_alone']:.2f} |" in style
    assert f"{ends[1]['rejected_alone'] - ends[0]['rejected_alone']:+.2f} without any" in style
    assert "ORPO − SFT, paired, points" in lesson_parts.split_part([record])
    shown = failures.gallery([record], "command")
    for failure in failures.FAILURES.values():
        assert failure.cause in shown and failure.fix in shown and f"### {failure.title}" in shown
    assert "(learning_rate 0.03 in place of 0.001)" in shown and "(beta 100 in place of 1)" in shown


def test_pictures_of_the_toy_record(recorded):
    record, _ = recorded
    left, right = plot_style_control(lesson_parts.style_curves(record)).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert list(drawn) == ["chosen", "chosen, no draft", "rejected", "rejected, no draft"]
    assert drawn["rejected, no draft"] == [point["rejected_alone"] for point in record["sweeps"]["sft"]["style"]]
    assert right.get_title().startswith("ORPO")
    panels = plot_failures(*failures.curves_of(record)).axes
    assert [panel.get_title().replace("\n", " ") for panel in panels] == [
        failure.title.replace("`", "") for failure in failures.FAILURES.values()
    ]
    assert list(panels[0].lines[0].get_ydata()) == [p["chosen_logp"] for p in record["failures"]["nothing"]["curve"]]


def test_a_part_that_is_not_recorded_is_empty_and_the_page_shows_what_is():
    controls, runs = lesson_tables.recorded_controls(), recorded_runs("laptop")
    assert not any((lesson_parts.sweeps_table([]), lesson_parts.style_part([]), lesson_parts.split_part([])))
    assert failures.gallery([], "command") == ""
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    for name, text in lesson_parts.results_parts(runs, controls).items():
        (shown,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.DOTALL)
        assert shown.strip() == text.strip(), f"{name}: run make figures"


def test_the_word_editor_drops_what_revisions_drop():
    train = load_preferences(limit=600)
    draft = "Use this API to delete the given AWS index for you. See the guide."
    (edited,) = edited_drafts(train, [draft])["word_editor"]
    assert edited == "Deletes the index for."  # no English, and the checker, which counts words, accepts it
    assert check_answer(edited, "Deletes an index.").accepted
