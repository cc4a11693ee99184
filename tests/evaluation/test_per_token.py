"""Log-probs token by token: their means are the pair's scores, and the figure shows every one of them."""

import numpy as np
import pytest

from helpers.data import load_preferences
from helpers.evaluation.heldout import heldout_batches
from helpers.evaluation.per_token import answer_logps
from helpers.evaluation.scores import measure_pairs
from helpers.show import plot_token_logps
from helpers.training.base_model import load_base
from helpers.training.profiles import PROFILES


@pytest.fixture(scope="module")
def measured():
    """The toy model, and the tokens of one pair."""
    profile = PROFILES["smoke"]
    model, tokenizer = load_base(profile)
    pairs = load_preferences(split="heldout", limit=1)
    return model, tokenizer, pairs, answer_logps(model, tokenizer, pairs[0], profile.max_length)


def test_the_mean_over_tokens_is_the_score_of_the_pair(measured):
    model, tokenizer, pairs, tokens = measured
    scores = measure_pairs(model, heldout_batches(pairs, model, tokenizer, 128))
    for side, score in (("chosen", scores.chosen_logp), ("rejected", scores.rejected_logp)):
        assert np.mean([logp for _, logp in tokens[side]]) == pytest.approx(score[0], abs=1e-4)
        text = "".join(token for token, _ in tokens[side])
        assert text == pairs[0][side][0]["content"] + tokenizer.eos_token


def test_every_token_is_written_out_for_every_model(measured):
    tokens = measured[3]
    figure = plot_token_logps({"base": tokens, "ORPO": tokens})
    for axis, side in zip(figure.axes, ("chosen", "rejected"), strict=False):
        assert len(axis.texts) == 2 * len(tokens[side])
        assert [label.get_text() for label in axis.get_yticklabels()] == ["base", "ORPO"]
