"""Baselines without a language model: how far do words alone get on the same held-out pairs?

Each but the editors scores an answer to a question and prefers the answer with the higher score; a tie is half a
win. Matching words trains nothing. The logistic regression weighs a few features on the training pairs. One of them,
whether name and answer begin with verbs of like meaning, reads the list of verbs that also chose the wrong answers of
"aws-api". The editors answer the prompts of the house style: the rule editor knows the checker's word lists, the word
editor learns from the training pairs which words to drop.
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
SEEN = 10  # drafts with a word, from which on the word editor trusts what it counts


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


def dropped_words(train) -> frozenset[str]:
    """The words, in lower case, that chosen answers leave out of most drafts that have them; rare words are none.

    A verb that the answer has in the third person is not left out.
    """
    there, gone = Counter(), Counter()
    for draft, chosen in zip(train["draft"], train["chosen"], strict=True):
        words, kept = set(draft.lower().split()), set(chosen[-1]["content"].lower().split())
        there.update(words)
        gone.update(word for word in words if not {word, third_person(word)} & kept)
    return frozenset(word for word, count in there.items() if count >= SEEN and 2 * gone[word] > count)


def edit_by_words(draft: str, dropped: frozenset[str]) -> str:
    """The first sentence of a draft without the words that are `dropped`; its first word gets an s.

    It needs no list of the checker's. What it writes is often no grammatical sentence, which the checker does not see.
    """
    words = [word for word in draft.split(". ")[0].rstrip(".").split() if word.lower() not in dropped]
    if words:
        words[0] = third_person(words[0])
    text = " ".join(words)
    return text[:1].upper() + text[1:] + "."


def third_person(verb: str) -> str:
    """'Delete' → 'Deletes', 'Modify' → 'Modifies', 'Search' → 'Searches'; what ends with an s stays."""
    if verb.endswith("s"):
        return verb
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(ch|sh|x|z)$", verb) else f"{verb}s"


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
    it cannot decide. Where the checker can judge answers, those of the editors are measured as a model's are.
    """
    train, heldout = as_conversations(train), as_conversations(heldout)
    results, groups = {}, groups_of(heldout)
    for name, margins in baseline_margins(train, heldout).items():
        results[name] = accuracy(margins, run.profile.seed, groups) | {"ties": float((margins == 0).mean())}
    if can_check(heldout):
        asked = heldout.select(range(min(run.profile.generation_prompts, len(heldout))))
        for name, edited in edited_drafts(train, asked["draft"]).items():
            results[name] = measure_answers(edited, asked, run.profile.seed, groups_of(asked))
    run.write_results(baselines=results)
    return results


def edited_drafts(train, drafts: list[str]) -> dict[str, list[str]]:
    """{editor: what it makes of each draft}; the word editor learns from the pairs `train`."""
    dropped = dropped_words(train)
    return {
        "rule_editor": [edit_by_rule(draft) for draft in drafts],
        "word_editor": [edit_by_words(draft, dropped) for draft in drafts],
    }
