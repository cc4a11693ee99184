"""Wrong answers for data that has right ones only. Each way of making them teaches another thing.

"nearest": the right answer to the most similar other prompt. Right style, wrong facts: teaches facts.
"numbers": the right answer with one number changed. Teaches the numbers, and nothing else.
A function of one's own: a rule that breaks what must hold, or the base model's own answers. Those differ from the
right ones in style as much as in facts, and style is the easier thing to learn.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from math import log

from datasets import Dataset

from helpers.data.pair_warnings import plain, text_of
from helpers.data.splits import SHARES, place_of, prompt_text, split_of_place

# (prompts, each a list of messages; right answers) → wrong answers, None where this way finds none
Way = Callable[[list[list[dict]], list[str]], Sequence[str | None]]
ALIKE = 0.75  # share of words in common from which two answers may both be right
COMMON = 200  # prompts with one word: more of them, and the word does not tell prompts apart
NUMBER = re.compile(r"\d{1,15}")  # of a longer run of digits a part is changed


def add_rejected(dataset: Dataset, ways: Mapping[str, Way]) -> Dataset:
    """The pairs with a wrong answer to each prompt, made by the ways in turn, and the way's name as `rejected_kind`.

    Where a way finds none, the others are asked. Rows that no way has an answer for are left out. Prints the share of
    each way. Raises ValueError where no row is left, or where a way gives another number of answers than it got.
    """
    made = _asked_in_turn(dataset["prompt"], [text_of(chosen) for chosen in dataset["chosen"]], ways)
    kept = [row for row, (_, text) in enumerate(made) if text is not None]
    if not kept:
        raise ValueError(f"{', '.join(ways)}: no wrong answer was found for any row; choose another way")
    kinds = Counter(made[row][0] for row in kept)
    shares = ", ".join(f"{name} {count / len(kept):.0%}" for name, count in kinds.most_common())
    left_out = f"; {len(made) - len(kept)} rows left out, for which none was found" if len(kept) < len(made) else ""
    print(f"wrong answers made: {shares}{left_out}")
    texts = [[{"role": "assistant", "content": made[row][1]}] for row in kept]
    rows = dataset.select(kept).remove_columns([name for name in MADE_COLUMNS if name in dataset.column_names])
    return rows.add_column("rejected", texts).add_column("rejected_kind", [made[row][0] for row in kept])


MADE_COLUMNS = ("rejected", "rejected_kind")


def _asked_in_turn(prompts: list, answers: list[str], ways: Mapping[str, Way]) -> list[tuple[str, str | None]]:
    """For each row (name of the way, wrong answer or None): row 0 asks the first way first, row 1 the second, …"""
    names = list(ways)
    made: list[tuple[str, str | None]] = [("", None)] * len(answers)
    for turn in range(len(names)):
        for number, name in enumerate(names):
            rows = [row for row in range(len(answers)) if made[row][1] is None and (row + turn) % len(names) == number]
            if rows:
                for row, text in zip(rows, _made(name, ways[name], prompts, answers, rows), strict=True):
                    made[row] = (name, text)
    return made


def _made(name: str, way: Way, prompts: list, answers: list[str], rows: list[int]) -> list[str | None]:
    """What a way makes for these rows, without what equals the right answer. "nearest" looks at all rows."""
    if way is nearest_answers:
        every = nearest_answers(prompts, answers)
        texts = [every[row] for row in rows]
    else:
        texts = list(way([prompts[row] for row in rows], [answers[row] for row in rows]))
    if len(texts) != len(rows):
        raise ValueError(f"{name} made {len(texts)} answers for {len(rows)} prompts: return one a prompt, or None")
    for row, text in zip(rows, texts, strict=True):
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name}, row {row}: made {type(text).__name__} instead of text; return a str or None")
    return [_other(text, answers[row]) for row, text in zip(rows, texts, strict=True)]


def _other(text: str | None, answer: str) -> str | None:
    return text if text and text.strip() and plain(text) != plain(answer) else None


def ways_named(rejected: str | Sequence[str] | Mapping[str, Way]) -> dict[str, Way]:
    """The functions for what a user gave as `rejected`; a ValueError for a name that is none."""
    if isinstance(rejected, Mapping):
        ways = dict(rejected)
    else:
        names = [rejected] if isinstance(rejected, str) else list(rejected)
        ways = {name: WAYS.get(name) for name in names}
    for name, way in ways.items():
        if not callable(way):
            raise ValueError(
                f"rejected={name!r} is no way to make wrong answers: give one of {', '.join(map(repr, WAYS))}, or "
                "{name: function of the prompts and the right answers}"
            )
    if not ways:
        raise ValueError(f"rejected is empty: give one of {', '.join(map(repr, WAYS))}")
    return ways


# ── nearest ──


def nearest_answers(prompts: list[list[dict]], answers: list[str]) -> list[str | None]:
    """For each prompt the right answer to the most similar other one, told from the words they share, rare ones more.

    Answers with most words in common may both be right, and are passed over. The rows of a split by prompt stay among
    themselves, so that a held-out right answer is never a wrong one in training.
    """
    words = [frozenset(plain(text_of(prompt)).split()) for prompt in prompts]
    said = [frozenset(plain(answer).split()) for answer in answers]
    splits = [split_of_place(place_of(prompt_text(prompt)), set(SHARES)) for prompt in prompts]
    rows_with = defaultdict(list)
    for row, its in enumerate(words):
        for word in its:
            rows_with[word].append(row)
    weight = {word: log(len(prompts) / len(rows)) for word, rows in rows_with.items()}
    found: list[str | None] = []
    for row, its in enumerate(words):
        shared: Counter = Counter()
        for word in its:
            if len(rows_with[word]) <= max(COMMON, len(prompts) // 50):
                shared.update(dict.fromkeys(rows_with[word], weight[word]))
        near = [other for other, _ in shared.most_common(20) if other != row and splits[other] == splits[row]]
        other = next((other for other in near if _differ(said[row], said[other])), None)
        found.append(None if other is None else answers[other])
    return found


def _differ(one: frozenset, other: frozenset) -> bool:
    return len(one & other) < ALIKE * len(one | other) and not (one <= other or other <= one)


# ── numbers ──


def other_numbers(prompts: list[list[dict]], answers: list[str]) -> list[str | None]:
    """Each answer with one of its numbers changed; None where it has none. The same answer gives the same number."""
    return [_with_other_number(answer) for answer in answers]


def _with_other_number(answer: str) -> str | None:
    found = list(NUMBER.finditer(answer))
    if not found:
        return None
    place = place_of(answer)
    at = found[int(place * len(found))]
    there = {match.group() for match in found}
    step = 1 + int(place * 997) % 9  # at most 9: a likely number, a wrong one
    larger = (str(int(at.group()) + more) for more in count(step))
    value = next(number for number in larger if number not in there)
    return answer[: at.start()] + value.zfill(len(at.group())) + answer[at.end() :]


WAYS: dict[str, Way] = {"nearest": nearest_answers, "numbers": other_numbers}
