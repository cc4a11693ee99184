"""Ways to score a pair, worked by hand, and measured with the same numbers as row by row."""

import numpy as np
import pytest
import torch

from helpers.evaluation.heldout import evaluate, heldout_batches, read_scores
from helpers.evaluation.scores import PairScores, measure_pairs
from helpers.evaluation.scoring import (
    RULES,
    answer_lengths,
    implicit_margins,
    rule_margins,
    scoring_rules,
    style_control,
    without_question,
)
from helpers.evaluation.tables import scoring_table
from helpers.objective.dpo import implicit_rewards
from helpers.runs.folder import Run
from helpers.training.profiles import PROFILES


def scores(chosen, rejected) -> PairScores:
    return PairScores(np.array(chosen), np.array(rejected))


def test_the_four_rules_by_hand():
    """The long chosen answer of the first pair wins by its mean and loses by its sum; style explains the second."""
    asked, unasked = scores([-1.0, -1.0], [-2.0, -3.0]), scores([-4.0, -1.5], [-4.0, -4.0])
    lengths = np.array([[10, 2], [3, 2]])
    margins = {rule: margin.tolist() for rule, margin in rule_margins(asked, unasked, lengths).items()}
    assert margins == {
        "mean": [1.0, 2.0],
        "sum": [-10 + 6, -2 + 6],
        "mean_question": [3.0 - 2.0, 0.5 - 1.0],
        "sum_question": [30.0 - 6.0, 1.0 - 2.0],
    }
    accuracies = [found["preference_accuracy"] for found in scoring_rules(asked, unasked, lengths).values()]
    assert accuracies == [1.0, 0.5, 0.5, 0.5]


def test_implicit_rewards_and_the_style_control_by_hand():
    policy, reference = scores([-1.0, -2.0], [-2.0, -1.0]), scores([-2.0, -2.0], [-2.5, -3.0])
    lengths = np.array([[10, 2], [4, 3]])
    assert implicit_margins(policy, reference, lengths).tolist() == [10 * 1.0 - 4 * 0.5, 2 * 0.0 - 3 * 2.0]
    ours = implicit_rewards(*(torch.tensor(sums) for sums in ([-10.0, -4], [-8.0, -3], [-20.0, -4], [-10.0, -9])), 0.1)
    assert (ours[0] - ours[1]).tolist() == pytest.approx([0.1 * 8.0, 0.1 * -6.0])
    told = {"chosen_logp": -1.5, "rejected_logp": -1.5, "chosen_alone": -2.0, "rejected_alone": -2.75}
    assert style_control(policy, reference) == told


def test_only_the_question_is_taken_away(pairs, tokenizer):
    bare = without_question(pairs)
    assert {prompt[-1]["content"] for prompt in bare["prompt"]} == {""} and bare["chosen"] == pairs["chosen"]
    assert [prompt[-1]["role"] for prompt in bare["prompt"]] == ["user"] * len(pairs)
    assert (answer_lengths(bare, tokenizer, 128) == answer_lengths(pairs, tokenizer, 128)).all()
    assert answer_lengths(pairs, tokenizer, 128)[0, 1] == len(
        tokenizer("Creates or updates a metric stream.<|im_end|>", add_special_tokens=False)["input_ids"]
    )


def test_a_model_is_scored_in_all_ways_by_one_evaluation(tmp_path, model, pairs, tokenizer):
    run = Run(tmp_path / "run", PROFILES["smoke"])
    result = evaluate(run, "base", model, tokenizer, pairs, run.profile)
    assert list(result["scoring"]) == list(RULES)
    assert result["scoring"]["mean"]["preference_accuracy"] == result["preference_accuracy"]
    unasked = measure_pairs(model, heldout_batches(without_question(pairs), model, tokenizer, 128))
    asked = read_scores(run.stage("base"))
    added = (asked.chosen_logp - unasked.chosen_logp) - (asked.rejected_logp - unasked.rejected_logp)
    assert result["scoring"]["mean_question"]["preference_accuracy"] == pytest.approx((added > 0).mean())
    table = scoring_table({"base": result, "dpo": {}}).splitlines()
    assert "SFT" not in table[0] and len(table) == 6 and "base" in table[0]
