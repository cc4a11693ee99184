"""Baselines without a language model: how far do words alone get on the same held-out pairs?

Each but the rule editor scores an answer to a question and prefers the answer with the higher score; a tie is half a
win. Matching words trains nothing. The logistic regression weighs a few features on the training pairs. One of them,
whether name and answer begin with verbs of like meaning, reads the list of verbs that also chose the wrong answers of
"aws-api". The rule editor answers the prompts of the house style.
"""

import math
import re
from collections import Counter

import numpy as np

from helpers.data.door import as_conversations
from helpers.data.house_style import edit_by_rule
from helpers.data.schema import SIDES
from helpers.data.words import ACTIONS_OF, STOP_WORDS, stem
from helpers.evaluation.checked import can_check, measure_answers
from helpers.evaluation.heldout import groups_of
from helpers.evaluation.scores import accuracy

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|\d+")  # `ListTopics` is two words
QUOTED = re.compile(r"`([^`]+)`")
STEPS, RATE, RIDGE = 500, 0.5, 1e-3  # gradient descent of the logistic regression


def stems(text: str) -> list[str]:
    """The stems of a text's words in order, CamelCase taken apart; words like `the` and `which` are left out."""
    return [stem(word) for word in WORD.findall(text) if word.lower() not in STOP_WORDS]


def asked_stems(question: str) -> list[str]:
    """The stems of what a question asks about: of its names in backticks, or of all its words where there are none."""
    return stems(" ".join(QUOTED.findall(question)) or question)


def inverse_frequency(dataset) -> dict[str, float]:
    """{stem: log((n + 1) / (answers with it + 1))} over all n chosen and rejected answers of a data set."""
    answers = [set(stems(messages[-1]["content"])) for side in SIDES for messages in dataset[side]]
    counts = Counter(word for answer in answers for word in answer)
    return {word: math.log((len(answers) + 1) / (count + 1)) for word, count in counts.items()}


def features(question: str, answer: str, rarity: dict[str, float]) -> list[float]:
    """Of an answer to a question: its shared stems (count, summed rarity, shares of both sides), whether what is asked
    begins and ends in it, and its length. A stem that `rarity` does not know counts as its rarest."""
    asked, said = asked_stems(question), stems(answer)
    shared, rarest = set(asked) & set(said), max(rarity.values(), default=1.0)
    actions = [ACTIONS_OF.get(word, {word}) for word in [*asked[:1], *said[:2]]]
    return [
        len(shared),
        sum(rarity.get(word, rarest) for word in shared),
        len(shared) / max(1, len(set(asked))),
        len(shared) / max(1, len(set(said))),
        len(set(stems(question)) & set(said)),
        float(any(actions[0] & other for other in actions[1:])) if asked else 0.0,
        float(asked[-1:] != [] and asked[-1] in said),
        math.log1p(len(said)),
    ]


def feature_differences(dataset, rarity: dict[str, float]) -> np.ndarray:
    """Features of the chosen answers minus those of the rejected ones: (pairs, features)."""
    questions = [prompt[-1]["content"] for prompt in dataset["prompt"]]
    chosen, rejected = (
        np.array([features(q, a[-1]["content"], rarity) for q, a in zip(questions, dataset[side], strict=True)])
        for side in SIDES
    )
    return chosen - rejected


def fit_logistic(differences: np.ndarray) -> np.ndarray:
    """Weights (features,) that minimise mean −log σ(differences · w) + ridge: Bradley and Terry's model, linear."""
    scale = differences.std(axis=0) + 1e-9
    x, weights = differences / scale, np.zeros(differences.shape[1])
    for _ in range(STEPS):
        lost = 1 / (1 + np.exp(np.clip(x @ weights, -50, 50)))  # 1 − σ: how far each pair is from won
        weights += RATE * (x.T @ lost / len(x) - RIDGE * weights)
    return weights / scale


def baseline_margins(train, heldout) -> dict[str, np.ndarray]:
    """{baseline: score of the chosen minus score of the rejected answer of each held-out pair, (n,)}."""
    rarity = inverse_frequency(train)
    differences = feature_differences(heldout, rarity)
    characters = {side: np.array([len(answer[-1]["content"]) for answer in heldout[side]]) for side in SIDES}
    weights = fit_logistic(feature_differences(train, rarity))
    return {
        "shorter": characters["rejected"] - characters["chosen"],
        "word_matching": differences[:, 0],
        "rare_words": differences[:, 1],
        "logistic_regression": differences @ weights,
    }


def evaluate_baselines(run, train, heldout) -> dict[str, dict]:
    """Measure every baseline on the held-out pairs, store them as `baselines` in results.json, and return them.

    Each has `n`, `preference_accuracy` and its 95% interval, as the methods have, and `ties`, the share of pairs that
    it cannot decide. Where the checker can judge answers, the rule editor's are measured as a model's are.
    """
    train, heldout = as_conversations(train), as_conversations(heldout)
    results, groups = {}, groups_of(heldout)
    for name, margins in baseline_margins(train, heldout).items():
        results[name] = accuracy(margins, run.profile.seed, groups) | {"ties": float((margins == 0).mean())}
    if can_check(heldout):
        asked = heldout.select(range(min(run.profile.generation_prompts, len(heldout))))
        edited = [edit_by_rule(draft) for draft in asked["draft"]]
        results["rule_editor"] = measure_answers(edited, asked, run.profile.seed, groups_of(asked))
    run.write_results(baselines=results)
    return results
