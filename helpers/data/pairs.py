"""Rows → preference pairs: two answers a row, a ranked list of answers, or single answers that are good or bad."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from helpers.data.columns import Layout, starts_with_question
from helpers.data.messages import conversation, reread
from helpers.data.row_checks import RowError
from helpers.data.schema import ABOUT, ONE_SIDED, SIDES, SOURCE, TEMPLATE

GOOD = ("1", "true", "good", "up", "yes", "positive", "thumbs up", "thumbs_up", "👍", "desirable", "like")
BAD = (
    "0",
    "-1",
    "false",
    "bad",
    "down",
    "no",
    "negative",
    "thumbs down",
    "thumbs_down",
    "👎",
    "undesirable",
    "dislike",
)
TEXTS = ("content", "text", "response", "output", "answer", "completion")  # of an answer that is an object
POINTS = ("score", "rating", "overall_score", "reward")
MOST_SOURCES = 1000  # that are counted


@dataclass
class Counts:
    """What happened to rows that gave no pair, or were read otherwise than their columns say."""

    tied: int = 0
    unpaired: int = 0
    other_prompt: int = 0
    system_moved: int = 0
    sources: Counter = field(default_factory=Counter)  # of rows that gave a pair

    def note_source(self, row: dict) -> None:
        """Count where a row is from; of very many sources the first ones, since one of most rows is looked for."""
        source = row.get(SOURCE)
        if isinstance(source, str) and (source in self.sources or len(self.sources) < MOST_SOURCES):
            self.sources[source] += 1

    def one_sided(self) -> list[str]:
        """A line where nearly all pairs are from one source."""
        (source, most), *others = self.sources.most_common(2) or [("", 0)]
        if not others or most <= ONE_SIDED * self.sources.total():
            return []
        share = most / self.sources.total()
        return [
            f"{source!r} is the {SOURCE} of {share:.0%} of the pairs; add rows of the others, or judge each by itself"
        ]

    def lines(self) -> list[str]:
        """A line for each kind that happened."""
        said = {
            "rows without two answers of different scores give no pair": self.tied,
            "single answers have no partner of the other label for their prompt": self.unpaired,
            "rows have their system text put in front of the first user message": self.system_moved,
            "rows have other text in `prompt` than in their conversations, which are used": self.other_prompt,
        }
        return [f"{count} {what}" for what, count in said.items() if count] + self.one_sided()


def pairs_of_row(row: dict, layout: Layout, min_gap: float | None, counts: Counts) -> Iterator[dict]:
    """The pairs of one row: `prompt`, `chosen` and `rejected` as messages where they can be read as such. Where rows
    have one right answer each, `rejected` is [].

    A ranked list gives its best against its worst answer, or with `min_gap` all whose scores differ at least by that.
    Raises RowError for a row that can't be read.
    """
    if layout.kind == "ranked":
        yield from _ranked(row, layout, min_gap, counts)
        return
    if layout.kind == "answers":
        yield _row_with(row, layout, *_asked_and_answered(row, layout), [])
        return
    answers = {side: _messages(side, row, layout) for side in SIDES}
    if layout.implicit and all(map(starts_with_question, answers.values())):
        yield _row_with(row, layout, *_split(answers, row, layout, counts))
    else:
        yield _row_with(row, layout, _prompt(row, layout), answers["chosen"], answers["rejected"])


class LabelledAnswers:
    """Single answers, each good or bad, to be paired by what they answer."""

    def __init__(self, layout: Layout, counts: Counts):
        self.layout, self.counts = layout, counts
        self.asked = sorted(layout.read - {layout.columns["answer"], layout.columns["label"]})
        self.found: dict[str, tuple[list, list]] = {}

    def add(self, number: int, row: dict) -> None:
        """Keep a row for `pairs`; RowError where its label is neither good nor bad."""
        answer = _conversation("chosen", _cell(row, self.layout, "answer"))
        good = _is_good(_cell(row, self.layout, "label"))
        key = json.dumps([row.get(name) for name in self.asked], sort_keys=True, default=str)
        self.found.setdefault(key, ([], []))[not good].append((number, row, answer))

    def pairs(self) -> Iterator[tuple[int, dict, dict]]:
        """(row number, row, pair): the first good answer with the first bad one of a prompt, then the second, …"""
        for good, bad in self.found.values():
            self.counts.unpaired += abs(len(good) - len(bad))
            for (number, row, chosen), (_, _, rejected) in zip(good, bad, strict=False):
                yield number, row, _row_with(row, self.layout, _prompt(row, self.layout), chosen, rejected)


def _asked_and_answered(row: dict, layout: Layout) -> tuple[list, list]:
    """The prompt and the right answer of a row, which may be one conversation."""
    said = _messages("chosen", row, layout)
    if not (layout.implicit and starts_with_question(said)):
        return _prompt(row, layout), said
    if len(said) < 2 or said[-1].get("role") != "assistant":
        raise RowError("chosen", "the conversation does not end with an answer", "end it with the assistant's message")
    return said[:-1], said[-1:]


def _cell(row: dict, layout: Layout, ours: str):
    column = layout.columns[ours]
    if column not in row:
        raise RowError(ours, f"no {column}", "add the column to every line", is_missing=True)
    return row[column]


def _messages(ours: str, row: dict, layout: Layout):
    return _conversation(ours, _cell(row, layout, ours), layout.transcripts and (layout.implicit or ours == "prompt"))


def _conversation(ours: str, value, transcript: bool = False):
    try:
        return conversation(ours, value, transcript)
    except ValueError as error:
        wrong, _, fix = str(error).rpartition("; ")
        raise RowError(ours, wrong, fix) from error


def _prompt(row: dict, layout: Layout):
    """The prompt's messages; an instruction is followed by the text that it is about."""
    if "prompt" not in layout.columns:
        raise RowError(
            "prompt", "the answers are no conversations that begin with a question", "write them as other rows do"
        )
    value = _cell(row, layout, "prompt")
    if isinstance(value, dict) and isinstance(value.get("messages"), list):  # OpenAI's preference format
        return _conversation("prompt", value["messages"])
    messages = _messages("prompt", row, layout)
    if layout.context and row.get(layout.context) and isinstance(value, str):
        return _conversation("prompt", f"{value}\n{row[layout.context]}")
    if layout.transcripts and messages and messages[-1] == {"role": "assistant", "content": ""}:
        return messages[:-1]
    return messages


def _row_with(row: dict, layout: Layout, prompt, chosen, rejected) -> dict:
    """A pair, with what else of its row is read."""
    more = {ours: reread(row.get(layout.columns[ours])) for ours in ("system", *TEMPLATE) if ours in layout.columns}
    asked = row.get(layout.columns.get("prompt"))
    if isinstance(asked, dict) and asked.get("tools"):
        more["tools"] = asked["tools"]
    about = {name: row[name] for name in ABOUT if row.get(name) is not None and name not in layout.read}
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | more | about


def _split(answers: dict[str, list], row: dict, layout: Layout, counts: Counts) -> tuple[list, list, list]:
    """Prompt and two answers of whole conversations: the prompt ends where they differ, or before the last answer."""
    chosen, rejected = answers["chosen"], answers["rejected"]
    shared, most = 0, min(len(chosen), len(rejected)) - 1
    while shared < most and chosen[shared] == rejected[shared]:
        shared += 1
    prompt = _checked_against(_asked(row), chosen[:shared], counts)
    return prompt, chosen[shared:], rejected[shared:]


def _asked(row: dict):
    return _conversation("prompt", row.get("prompt")) if isinstance(row.get("prompt"), list | str) else None


def _checked_against(asked, prompt: list[dict], counts: Counts) -> list[dict]:
    """The prompt of the conversations, with what a column `prompt` has in front of it, such as a system message."""
    if not isinstance(asked, list) or not asked or not isinstance(asked[-1], dict):
        return prompt
    if asked[len(asked) - len(prompt) :] == prompt:
        return asked
    last = str(asked[-1].get("content")).strip()
    counts.other_prompt += len(asked) > 1 or not any(last in str(message.get("content")) for message in prompt)
    return prompt


# ── ranked answers ──


def _ranked(row: dict, layout: Layout, min_gap: float | None, counts: Counts) -> Iterator[dict]:
    answers = reread_list(_cell(row, layout, "answers"))
    if not isinstance(answers, list) or not answers:
        raise RowError("answers", f"is {type(answers).__name__} or empty", "give a list of answers")
    if "scores" in layout.columns:
        scores = reread_list(_cell(row, layout, "scores"))
        if not isinstance(scores, list) or len(scores) != len(answers):
            found = len(scores) if isinstance(scores, list) else type(scores).__name__
            raise RowError("scores", f"{found} for {len(answers)} answers", "give a list with one score an answer")
    else:
        scores = [_inside(answer, POINTS, "score") for answer in answers]
    texts = [_text(answer) for answer in answers]
    ranked = sorted(zip(map(_number, scores), texts, strict=True), key=lambda pair: -pair[0])
    found = (
        [(ranked[0], ranked[-1])]
        if min_gap is None
        else [(a, b) for i, a in enumerate(ranked) for b in ranked[i + 1 :]]
    )
    found = [(a, b) for a, b in found if a[0] > b[0] and a[0] - b[0] >= (min_gap or 0)]
    counts.tied += not found
    for (_, better), (_, worse) in found:
        yield _row_with(
            row, layout, _prompt(row, layout), _conversation("chosen", better), _conversation("rejected", worse)
        )


def reread_list(value):
    """A list that a CSV holds as text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _text(answer):
    """The text of an answer, or its messages."""
    if not isinstance(answer, dict):
        return answer
    return [answer] if "role" in answer or "from" in answer else _inside(answer, TEXTS, "text")


def _inside(answer, keys: tuple[str, ...], what: str):
    """The first of the keys that an answer, an object, has."""
    if not isinstance(answer, dict) or (key := next((key for key in keys if key in answer), None)) is None:
        raise RowError("answers", f"an answer without its {what}", f"give objects with one of {', '.join(keys)}")
    return answer[key]


def _number(score) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise RowError("scores", f"holds {score!r}"[:60], "give numbers")
    return number


def _is_good(label) -> bool:
    text = str(int(label) if isinstance(label, float) and label.is_integer() else label).strip().lower()
    if text in GOOD or text in BAD:
        return text in GOOD
    raise RowError(
        "label", f"holds {text[:40]!r}", f"give true or false, or one of {', '.join((*GOOD[2:6], *BAD[3:6]))}"
    )
