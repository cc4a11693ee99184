"""Generated answers judged by something that is not the model: the checker of the house style.

It judges answers to any pairs that name the text whose facts an answer must keep, in the column `summary`. The checker
counts words and reads no grammar. Where the draft was made from that text, `word_for_word` is stricter: the answer is
that text, articles aside.
"""

import re

import numpy as np

from helpers.data.house_style import RULES, Verdict, check_answer
from helpers.evaluation.intervals import bootstrap_ci

FACTS = "summary"
ARTICLES = re.compile(r"\b(an?|the|one or more) ", re.IGNORECASE)  # the words that faults are written in after
SAMPLING = 1.0  # the temperature of sampled answers: the model's own distribution


def can_check(dataset) -> bool:
    """True for pairs whose generated answers the checker can judge."""
    return FACTS in dataset.column_names


def verdicts(answers: list[str], asked) -> list[Verdict]:
    """The checker's verdict of each answer to the rows `asked`."""
    return [check_answer(answer, facts) for answer, facts in zip(answers, asked[FACTS], strict=True)]


def judged(answers: list[str], asked) -> dict[str, np.ndarray]:
    """{measure: 1 or 0 for each answer}: `answers_right` if the checker accepts it, `facts_hold` if its facts do."""
    found = verdicts(answers, asked)
    return {
        "answers_right": np.array([verdict.accepted for verdict in found], float),
        "facts_hold": np.array([verdict.facts_hold for verdict in found], float),
    }


def measure_answers(answers: list[str], asked, seed: int = 0, groups=None) -> dict:
    """The results.json values: shares of answers that are accepted and keep the facts, and that break each rule."""
    broken = [verdict.broken for verdict in verdicts(answers, asked)]
    measures = {"answers_n": len(answers)}
    for name, values in judged(answers, asked).items():
        measures |= {name: float(values.mean()), f"{name}_ci95": bootstrap_ci(values, seed, groups)}
    return measures | {"rules_broken": {rule: float(np.mean([rule in rules for rules in broken])) for rule in RULES}}


def word_for_word(answers: list[str], asked) -> np.ndarray:
    """1 for each answer that has the words of the text that its draft was made from, in their order, else 0: (n,)."""

    def words(text: str) -> list[str]:
        return ARTICLES.sub("", text).lower().split()

    return np.array([words(answer) == words(text) for answer, text in zip(answers, asked[FACTS], strict=True)], float)


def measure_wording(answers: list[str], asked, seed: int = 0, groups=None) -> dict:
    """The share of answers that are `word_for_word`, and its 95% interval; {} where no draft was made from a text."""
    if list(asked["draft"]) == list(asked[FACTS]):
        return {}
    same = word_for_word(answers, asked)
    return {"word_for_word": float(same.mean()), "word_for_word_ci95": bootstrap_ci(same, seed, groups)}


def paired_answers(a: list[str], b: list[str], asked, seed: int = 0, groups=None) -> dict:
    """Measures of answers `b` minus those of `a` to the same rows, each with its paired 95% interval."""
    before, after = judged(a, asked), judged(b, asked)
    gains = {}
    for name in before:
        difference = after[name] - before[name]
        gains |= {name: float(difference.mean()), f"{name}_ci95": bootstrap_ci(difference, seed, groups)}
    return gains
