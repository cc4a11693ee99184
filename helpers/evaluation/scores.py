"""Held-out measurement: log-probs of chosen and rejected answers, and how sure we may be of them.

Every interval is a 95% percentile bootstrap. Pairs of one service resemble each other, so whole services are
resampled where the services are given, single pairs otherwise. Two models are compared on the same resamples (paired).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from helpers.evaluation.intervals import bootstrap_ci
from helpers.objective.chunked_logprobs import chunking_obstacle
from helpers.objective.logprobs import evaluating, pair_logps
from helpers.objective.odds_ratio import log_odds
from helpers.runs.memory import release_memory


def wins(margins: np.ndarray) -> np.ndarray:
    """1 where a margin of chosen over rejected is positive, 0 where it is negative, ½ where it is zero: a tie."""
    return np.where(margins == 0, 0.5, margins > 0)


def accuracy(margins: np.ndarray, seed: int = 0, groups=None) -> dict:
    """The results.json values of any score: pairs, the share won by the chosen answer, and its 95% interval."""
    won = wins(margins)
    interval = bootstrap_ci(won, seed, groups)
    return {"n": len(won), "preference_accuracy": float(won.mean()), "preference_accuracy_ci95": interval}


@dataclass
class PairScores:
    """Mean token log-probs (nats) of n held-out pairs: two arrays of shape (n,), and the group (service) of each."""

    chosen_logp: np.ndarray
    rejected_logp: np.ndarray
    groups: list[str] | None = field(default=None, repr=False)

    @property
    def wins(self) -> np.ndarray:
        """1 where the chosen answer is likelier per token, 0 where the rejected one is, ½ where they tie."""
        return wins(self.chosen_logp - self.rejected_logp)

    def means(self) -> dict:
        """Means over pairs, without intervals, in no time: log-probs, their log-odds difference, the share of wins.

        `log_odds_difference` is log-odds(chosen) − log-odds(rejected), which TRL logs as log_odds_chosen. TRL's
        log_odds_ratio is log σ of it.
        """
        odds = [log_odds(torch.as_tensor(logps)) for logps in (self.chosen_logp, self.rejected_logp)]
        return {
            "preference_accuracy": float(self.wins.mean()),
            "chosen_logp": float(self.chosen_logp.mean()),
            "rejected_logp": float(self.rejected_logp.mean()),
            "log_odds_difference": float((odds[0] - odds[1]).mean()),
        }

    def summary(self, seed: int = 0) -> dict:
        """The results.json values: `means`, perplexity, and the interval of the preference accuracy."""
        measured = accuracy(self.chosen_logp - self.rejected_logp, seed, self.groups)
        return measured | self.means() | {"perplexity": float(np.exp(-self.chosen_logp.mean()))}


def measure_pairs(model, batches: Iterable[dict], groups=None) -> PairScores:
    """Chosen and rejected log-probs of every pair in `batches` (from PreferenceCollator, either layout)."""
    scores = score_pairs(model, batches, can_chunk(model), groups)
    release_memory()
    return scores


def can_chunk(model) -> bool:
    """Whether log-probs come straight from this model's hidden states. To find out costs a forward pass."""
    with evaluating(model):
        return chunking_obstacle(model) is None


def score_pairs(model, batches: Iterable[dict], chunked: bool, groups=None) -> PairScores:
    """The same as `measure_pairs` where `can_chunk` is known, without giving memory back: for every few steps."""
    with evaluating(model):
        on_device = ({key: tensor.to(model.device) for key, tensor in batch.items()} for batch in batches)
        measured = [pair_logps(model, batch, chunked) for batch in on_device]
    chosen, rejected = (torch.cat(side).cpu().numpy() for side in zip(*measured, strict=True))
    return PairScores(chosen, rejected, groups)


def paired_difference(a: PairScores, b: PairScores, seed: int = 0) -> tuple[float, list[float]]:
    """Preference accuracy of `b` minus that of `a`, and its paired 95% interval."""
    if len(a.wins) != len(b.wins):
        raise ValueError(f"{len(a.wins)} pairs against {len(b.wins)}: compare models on the same held-out pairs")
    difference = b.wins - a.wins
    return float(difference.mean()), bootstrap_ci(difference, seed, a.groups)
