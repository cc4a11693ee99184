"""More than one way to score a pair: by mean or summed log-prob, each with and without what the question adds.

The mean is ORPO's own training margin. The sum is the log-prob of the whole answer and favours short ones. Taking off
the log-probs that the same answers have without a question leaves what the question adds: an answer that merely sounds
like documentation gains nothing by that.
"""

import numpy as np
from datasets import Dataset

from helpers.data.row_checks import checked
from helpers.data.schema import SIDES
from helpers.data.tokenize import response_tokens, tokenize_preferences
from helpers.evaluation.methods import RULES
from helpers.evaluation.scores import PairScores, accuracy


def without_question(dataset: Dataset) -> Dataset:
    """The same answers to an empty question: the last message of each prompt has no text."""
    fresh = {"load_from_cache_file": False, "desc": "Without the question"}
    unasked = dataset.map(lambda row: {"prompt": [*row["prompt"][:-1], row["prompt"][-1] | {"content": ""}]}, **fresh)
    return checked(unasked)  # the rows were, when they had their questions


def answer_lengths(dataset: Dataset, tokenizer, max_length: int) -> np.ndarray:
    """Tokens of the chosen and of the rejected answers, EOS included, as they are scored: (2, pairs)."""
    rows = list(tokenize_preferences(dataset, tokenizer, max_length))
    return np.array([[response_tokens(row, side) for row in rows] for side in SIDES])


def rule_margins(asked: PairScores, unasked: PairScores, lengths: np.ndarray) -> dict[str, np.ndarray]:
    """{rule: score of the chosen minus score of the rejected answer, (pairs,)}.

    asked, unasked: mean log-probs with and without the question; lengths: tokens of either answer, (2, pairs).
    """
    with_it, without_it = (np.stack([scores.chosen_logp, scores.rejected_logp]) for scores in (asked, unasked))
    added = with_it - without_it
    scores = (with_it, with_it * lengths, added, added * lengths)
    return {rule: chosen - rejected for rule, (chosen, rejected) in zip(RULES, scores, strict=True)}


def implicit_margins(policy: PairScores, reference: PairScores, lengths: np.ndarray) -> np.ndarray:
    """DPO's own score of pairs: implicit reward of the chosen minus that of the rejected answer, over β, (pairs,).

    policy, reference: mean log-probs under the model that DPO trained and the one that it began with; lengths: tokens
    of either answer, (2, pairs).
    """
    trained, began = (np.stack([scores.chosen_logp, scores.rejected_logp]) for scores in (policy, reference))
    chosen, rejected = (trained - began) * lengths
    return chosen - rejected


def style_control(asked: PairScores, unasked: PairScores) -> dict[str, float]:
    """Mean log-probs (nats) of the chosen and of the rejected answers, with the question, and alone without it.

    What rises without the question is style; the difference of the two is what the question adds.
    """
    return {
        "chosen_logp": float(asked.chosen_logp.mean()),
        "rejected_logp": float(asked.rejected_logp.mean()),
        "chosen_alone": float(unasked.chosen_logp.mean()),
        "rejected_alone": float(unasked.rejected_logp.mean()),
    }


def scoring_rules(asked: PairScores, unasked: PairScores, lengths: np.ndarray, seed: int = 0) -> dict[str, dict]:
    """{rule: number of pairs, preference accuracy by it, and its 95% interval}."""
    margins = rule_margins(asked, unasked, lengths)
    return {rule: accuracy(margin, seed, asked.groups) for rule, margin in margins.items()}
