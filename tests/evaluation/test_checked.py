"""Generated answers judged by the checker: shares and paired differences by hand, greedy and sampled in a result."""

import pytest
from datasets import Dataset

from helpers.data import load_preferences
from helpers.data.house_style import edit_by_rule
from helpers.evaluation.baselines import evaluate_baselines
from helpers.evaluation.checked import (
    can_check,
    measure_answers,
    measure_wording,
    paired_answers,
    verdicts,
    word_for_word,
)
from helpers.evaluation.heldout import evaluate, load_heldout, record_comparison
from helpers.evaluation.kinds import kinds_table
from helpers.evaluation.tables import comparison_table, difference_table
from helpers.runs.folder import Run
from helpers.training.base_model import load_base
from helpers.training.profiles import PROFILES

ROWS = Dataset.from_dict({"summary": ["Deletes an index."] * 4, "service": ["a", "b", "c", "d"]})
RIGHT, WORDY, WRONG = "Deletes an index.", "Deletes the given index.", "Creates a job."


def test_measures_by_hand():
    measures = measure_answers([RIGHT, WORDY, WORDY, WRONG], ROWS)
    assert measures["answers_n"] == 4
    assert (measures["answers_right"], measures["facts_hold"]) == (0.25, 0.75)
    assert measures["rules_broken"] == {"verb": 0, "reader": 0, "filler": 0.5, "brand": 0, "sentence": 0}
    low, high = measures["answers_right_ci95"]
    assert 0 <= low <= 0.25 <= high <= 1


def test_paired_difference_by_hand():
    gain = paired_answers([RIGHT, WORDY, WORDY, WRONG], [RIGHT, RIGHT, WORDY, RIGHT], ROWS, groups=ROWS["service"])
    assert (gain["answers_right"], gain["facts_hold"]) == (0.5, 0.25)
    assert gain["answers_right_ci95"][0] <= 0.5 <= gain["answers_right_ci95"][1]
    assert paired_answers([WRONG] * 4, [WRONG] * 4, ROWS)["answers_right_ci95"] == [0, 0]


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
    assert edit_by_rule(draft) == edited


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A toy run with base and ORPO (the same model), measured on the house style."""
    profile = PROFILES["smoke"]
    run = Run(tmp_path_factory.mktemp("run") / "run", profile)
    model, tokenizer = load_base(profile)
    heldout = load_preferences(split="heldout", limit=profile.heldout_pairs)
    for method in ("base", "sft", "orpo"):
        evaluate(run, method, model, tokenizer, heldout, profile)
    return run, heldout


def test_a_result_has_greedy_and_sampled_answers(run):
    run, heldout = run
    result, n = run.require("base"), PROFILES["smoke"].generation_prompts
    assert can_check(heldout)
    assert result["answers_n"] == result["sampled_answers_n"] == n
    for way, prefix in (("answers", ""), ("sampled", "sampled_")):
        said = load_heldout(run, "base", way)[1]
        measured = measure_answers(said, heldout.select(range(n)), groups=heldout["service"][:n])
        assert {f"{prefix}{name}": value for name, value in measured.items()}.items() <= result.items()


def test_tables_of_checked_answers(run):
    run, heldout = run
    methods = {name: run.require(name) for name in ("base", "orpo")}
    table = comparison_table(methods, evaluate_baselines(run, load_preferences(limit=40), heldout))
    assert "| answers accepted, greedy " in table and "| editor by rule " in table
    broken = kinds_table(run, methods, heldout).splitlines()
    assert [line.split("|")[1].strip() for line in broken[2:]] == ["verb", "reader", "filler", "brand", "sentence"]
    difference = difference_table({"answers_right": 0.125, "answers_right_ci95": [0.05, 0.2], "chrf": 3.0})
    assert difference.splitlines()[-1].split("|")[1:3] == [" answers accepted, greedy ", " +12.5 (+5.0 to +20.0) "]


def test_generations_say_which_answers_the_checker_accepts(run):
    run, heldout = run
    record_comparison(run, {"answers_right": 0.0}, heldout.select(range(PROFILES["smoke"].generation_prompts)))
    accepted = [row["accepted"] for row in run.results["generations"]]
    assert all(set(each) == {"base", "sft", "orpo"} for each in accepted)
    share = sum(each["orpo"] for each in accepted) / len(accepted)
    assert share == run.require("orpo")["answers_right"]


def test_pairs_without_facts_are_not_judged(tmp_path):
    profile = PROFILES["smoke"]
    model, tokenizer = load_base(profile)
    heldout = load_preferences("aws-api", "heldout", 8)
    result = evaluate(Run(tmp_path / "run", profile), "base", model, tokenizer, heldout, profile)
    assert not can_check(heldout) and "answers_right" not in result
    assert "answers accepted" not in comparison_table({"base": result})


def test_word_for_word_reads_what_the_checker_does_not():
    asked = Dataset.from_dict({"summary": ["Lists the jobs of a queue."] * 3, "draft": ["Lists the given jobs."] * 3})
    answers = ["Lists jobs of the queue.", "Lists the jobs queue.", "Lists the jobs in a queue."]
    assert [verdict.accepted for verdict in verdicts(answers, asked)] == [True, True, True]
    assert word_for_word(answers, asked).tolist() == [1, 0, 0]
    measured = measure_wording(answers, asked)
    assert measured["word_for_word"] == pytest.approx(1 / 3) and len(measured["word_for_word_ci95"]) == 2
    assert measure_wording(answers, Dataset.from_dict({"summary": answers, "draft": answers})) == {}
