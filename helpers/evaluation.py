"""Held-out measurement: log-probs of chosen and rejected answers, generations, and how sure we may be of either.

Every interval is a 95% percentile bootstrap. Pairs of one service resemble each other, so whole services are
resampled wherever the services are given. Two models are compared on the same resamples (paired).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from sacrebleu.metrics import CHRF
from tqdm.auto import tqdm

from helpers.lean_head import why_not_lean
from helpers.logprobs import evaluating, pair_logps
from helpers.odds_ratio import log_odds

RESAMPLES = 2000
PER_TOKEN = "mean log-prob per token, nats"


# ── the bootstrap ───────────────────────────────────────────────────────────────────────────────────────────


def resample_weights(n: int, seed: int, groups=None, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of n items is drawn in each resample: (resamples, n). With `groups`, whole groups are drawn."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"{n} items but {len(groups)} groups: give one group an item")
    _, member = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    count = member.max() + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, member]


def bootstrap_ci(values, seed: int = 0, groups=None) -> list[float]:
    """95% interval [low, high] of the mean of `values` (n,)."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("no values to resample: give at least one held-out pair")
    weights = resample_weights(len(values), seed, groups)
    means = weights @ values / weights.sum(axis=1)
    return [float(bound) for bound in np.percentile(means, [2.5, 97.5])]


# ── log-probs of pairs ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class PairScores:
    """Mean token log-probs (nats) of n held-out pairs: two arrays of shape (n,), and the service of each pair."""

    chosen_logp: np.ndarray
    rejected_logp: np.ndarray
    groups: list[str] | None = field(default=None, repr=False)

    @property
    def wins(self) -> np.ndarray:
        """1 where the chosen answer is likelier per token, 0 where the rejected one is, ½ where they tie."""
        return np.where(self.chosen_logp == self.rejected_logp, 0.5, self.chosen_logp > self.rejected_logp)

    def summary(self, seed: int = 0) -> dict:
        """The results.json values: means over pairs, and the interval of the preference accuracy."""
        odds = [log_odds(torch.as_tensor(logps)) for logps in (self.chosen_logp, self.rejected_logp)]
        return {
            "n": len(self.wins),
            "chosen_logp": float(self.chosen_logp.mean()),
            "rejected_logp": float(self.rejected_logp.mean()),
            "preference_accuracy": float(self.wins.mean()),
            "preference_accuracy_ci95": bootstrap_ci(self.wins, seed, self.groups),
            "log_odds_ratio": float((odds[0] - odds[1]).mean()),
            "perplexity": float(np.exp(-self.chosen_logp.mean())),
        }


def measure_pairs(model, batches: Iterable[dict], groups=None) -> PairScores:
    """Chosen and rejected log-probs of every pair in `batches` (from PreferenceCollator, either layout)."""
    with evaluating(model):
        lean = why_not_lean(model) is None
        on_device = ({key: tensor.to(model.device) for key, tensor in batch.items()} for batch in batches)
        measured = [pair_logps(model, batch, lean) for batch in on_device]
    chosen, rejected = (torch.cat(side).cpu().numpy() for side in zip(*measured, strict=True))
    return PairScores(chosen, rejected, groups)


def paired_difference(a: PairScores, b: PairScores, seed: int = 0) -> tuple[float, list[float]]:
    """Preference accuracy of `b` minus that of `a`, and its paired 95% interval."""
    if len(a.wins) != len(b.wins):
        raise ValueError(f"{len(a.wins)} pairs against {len(b.wins)}: compare models on the same held-out pairs")
    difference = b.wins - a.wins
    return float(difference.mean()), bootstrap_ci(difference, seed, a.groups)


# ── generations ─────────────────────────────────────────────────────────────────────────────────────────────


def generate_answers(
    model, tokenizer, prompts: list[list[dict]], max_new_tokens: int, batch_size: int = 16, desc: str = "answers"
) -> list[str]:
    """Greedy answers to chat prompts, new text only. Greedy, so that the same model always says the same.

    Shows its progress under the name `desc` where there is more than one batch.
    """
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    answers = []
    with evaluating(model):
        for start in tqdm(range(0, len(texts), batch_size), desc=desc, disable=len(texts) <= batch_size):
            inputs = tokenizer(
                texts[start : start + batch_size],
                return_tensors="pt",
                padding=True,
                padding_side="left",  # generation continues from the right end
                add_special_tokens=False,
            ).to(model.device)
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            new_tokens = output[:, inputs["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]
    return answers


def chrf_statistics(answers: list[str], references: list[str]) -> np.ndarray:
    """sacrebleu's character n-gram counts for each answer: (n, 18). Their sum gives the corpus score."""
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers for {len(references)} references: give one each")
    return np.array(
        [CHRF()._extract_corpus_statistics([a], [[r]])[0] for a, r in zip(answers, references, strict=True)]
    )


def chrf_score(statistics: np.ndarray) -> float:
    """Corpus chrF (0 to 100) from summed statistics (18,)."""
    return CHRF()._compute_f_score([float(count) for count in statistics])


def chrf_with_ci(answers: list[str], references: list[str], seed: int = 0, groups=None) -> tuple[float, list[float]]:
    """Corpus chrF of the answers and its 95% interval."""
    score, scores = _chrf_resampled(answers, references, seed, groups)
    return score, [float(bound) for bound in np.percentile(scores, [2.5, 97.5])]


def paired_chrf_difference(a: list[str], b: list[str], references: list[str], seed: int = 0, groups=None):
    """chrF of answers `b` minus that of `a`, and its paired 95% interval."""
    (score_a, scores_a), (score_b, scores_b) = (_chrf_resampled(x, references, seed, groups) for x in (a, b))
    return score_b - score_a, [float(bound) for bound in np.percentile(scores_b - scores_a, [2.5, 97.5])]


def _chrf_resampled(answers, references, seed, groups) -> tuple[float, np.ndarray]:
    statistics = chrf_statistics(answers, references)
    weights = resample_weights(len(answers), seed, groups)
    return chrf_score(statistics.sum(axis=0)), np.array([chrf_score(row) for row in weights @ statistics])


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────

ROWS = {
    "preference accuracy": lambda m: _percent(m["preference_accuracy"], m["preference_accuracy_ci95"]),
    "chosen log-prob": lambda m: f"{m['chosen_logp']:.2f}",
    "rejected log-prob": lambda m: f"{m['rejected_logp']:.2f}",
    "log odds ratio": lambda m: f"{m['log_odds_ratio']:.2f}",
    "perplexity of chosen": lambda m: f"{m['perplexity']:.1f}",
    "chrF of answers": lambda m: f"{m['chrf']:.1f} ({m['chrf_ci95'][0]:.1f} to {m['chrf_ci95'][1]:.1f})",
    "pairs trained on": lambda m: f"{m['pairs']}" if m.get("pairs") else "—",
    "training seconds": lambda m: f"{m['train_seconds']:.0f}" if m.get("train_seconds") else "—",
}


def comparison_table(methods: dict[str, dict]) -> str:
    """Markdown table of results.json's `methods`, one column a method, intervals in brackets."""
    names = {"base": "base", "sft": "SFT", "orpo": "ORPO", "dpo": "DPO", "rlhf": "RLHF"}
    head = ["held out", *(names.get(method, method) for method in methods)]
    rows = [[label, *(cell(result) for result in methods.values())] for label, cell in ROWS.items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[head[i].ljust(widths[i]) for i in range(len(head))], ["-" * width for width in widths]]
    lines += [[row[i].ljust(widths[i]) for i in range(len(head))] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(value: float, interval: list[float]) -> str:
    return f"{value:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"
