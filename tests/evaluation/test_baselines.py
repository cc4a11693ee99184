"""Baselines without a language model: worked by hand, and what they reach on the built-in domain."""

import numpy as np
import pytest
from datasets import Dataset

from helpers.data.load import load_preferences
from helpers.evaluation.baselines import asked_stems, baseline_margins, evaluate_baselines, fit_logistic, stems
from helpers.evaluation.methods import BASELINES
from helpers.evaluation.tables import comparison_table
from helpers.runs.folder import Run
from helpers.show.run_plots import plot_results
from helpers.training.profiles import PROFILES


def a_pair(question, chosen, rejected) -> dict:
    def answer(text):
        return [{"role": "assistant", "content": text}]

    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": answer(chosen),
        "rejected": answer(rejected),
    }


def test_words_are_taken_apart_and_a_question_asks_about_its_names():
    assert stems("Lists the DBInstances of policies.") == ["list", "db", "instanc", "policy"]
    assert asked_stems("What does `ListTopics` of Amazon MSK do?") == ["list", "topic"]
    assert asked_stems("Who won the match?") == ["who", "won", "match"]


def test_margins_of_word_matching_by_hand():
    pairs = Dataset.from_list(
        [
            a_pair("What does `DeleteQueue` do?", "Deletes a queue.", "Deletes a topic."),  # 2 against 1
            a_pair("What does `DeleteQueue` do?", "Removes it.", "Starts a queue."),  # 0 against 1
            a_pair("What does `DeleteQueue` do?", "Removes it.", "Starts a job."),  # 0 against 0
        ]
    )
    margins = baseline_margins(pairs, pairs)
    assert margins["word_matching"].tolist() == [1, -1, 0]
    lengths = [[len(row[side][0]["content"]) for side in ("chosen", "rejected")] for row in pairs]
    assert margins["shorter"].tolist() == [rejected - chosen for chosen, rejected in lengths]
    # Of 6 answers `queue` is in 2: log(7/3) is what the first pair's chosen answer has and its rejected one lacks
    assert margins["rare_words"] == pytest.approx([np.log(7 / 3), -np.log(7 / 3), 0])


def test_logistic_regression_by_hand():
    """Of pairs whose one feature is +1 in three of four, the optimum is where σ(w) = 3/4: w = log 3 (ridge aside)."""
    differences = np.array([[1.0], [1.0], [1.0], [-1.0]])
    assert fit_logistic(differences)[0] == pytest.approx(np.log(3), rel=0.02)


def test_own_pairs_without_any_other_column_are_measured_and_stored(tmp_path, pairs):
    run = Run(tmp_path / "run", PROFILES["smoke"])
    measured = evaluate_baselines(run, pairs, pairs)
    assert run.results["baselines"] == measured and list(measured) == [
        "shorter",
        "word_matching",
        "rare_words",
        "logistic_regression",
    ]
    for result in measured.values():
        low, high = result["preference_accuracy_ci95"]
        assert result["n"] == len(pairs) and 0 <= low <= result["preference_accuracy"] <= high <= 1
    _, below = comparison_table({"base": {}}, measured).split("\n\n")
    assert [line.split("|")[1].strip() for line in below.splitlines()[2:]] == [BASELINES[name][0] for name in measured]


@pytest.fixture(scope="module")
def built_in(tmp_path_factory):
    """The baselines on the laptop profile's pairs."""
    run = Run(tmp_path_factory.mktemp("run") / "run", PROFILES["laptop"])
    train, heldout = load_preferences("aws-api", limit=600), load_preferences("aws-api", "heldout", limit=256)
    return evaluate_baselines(run, train, heldout)


def test_the_built_in_task_is_won_by_words_to_a_large_part(built_in):
    """An independent count of shared stems of name and answer gave 81.8%, a logistic regression of its kind 91.4%."""
    accuracy = {name: result["preference_accuracy"] for name, result in built_in.items()}
    assert accuracy["word_matching"] == pytest.approx(0.818, abs=0.01)
    assert accuracy["rare_words"] == pytest.approx(0.82, abs=0.02)
    assert accuracy["logistic_regression"] == pytest.approx(0.914, abs=0.02)


def test_baselines_are_labelled_lines_in_the_figure_of_results(built_in):
    result = {"preference_accuracy": 0.7, "preference_accuracy_ci95": [0.6, 0.8]}
    result |= {"chosen_logp": -2.0, "rejected_logp": -3.0}
    left, _ = plot_results({"base": result}, baselines=built_in).axes
    lines = {line.get_label(): line for line in left.lines}
    matching = lines["word matching"]
    assert matching.get_ydata()[0] == built_in["word_matching"]["preference_accuracy"]
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["the shorter answer", "word matching", "rare words matched", "logistic regression"]
    assert len({str(lines[label].get_linestyle() + str(lines[label]._dash_pattern)) for label in labels}) == 4
