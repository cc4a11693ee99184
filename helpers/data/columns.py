"""What the columns of a preference data set mean: found by their names and by what they hold, or told by the user."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from helpers.data.messages import is_question_transcript, is_transcript, reread
from helpers.data.schema import ABOUT, SIDES, SOURCE, TEMPLATE

PROMPTS = ("prompt", "question", "instruction", "query", "input", "conversations", "conversation", "messages")
SYSTEMS = ("system", "system_prompt")
PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("best", "worst"),
    ("winner", "loser"),
    ("response_j", "response_k"),
)
LISTS = ("completions", "responses", "generations", "answers", "candidates")
SCORES = ("scores", "ratings", "rating", "score")
SINGLES = ("completion", "response", "answer", "output", "generation")
TALKS = ("messages", "conversations", "conversation")  # whole conversations, whose last message is the answer
LABELS = ("label", "thumbs", "feedback", "liked", "rating", "score")
OURS = ("prompt", "chosen", "rejected", "system", "answers", "scores", "answer", "label", *TEMPLATE)

EVERY_NAME = {*PROMPTS, *SYSTEMS, *(name for pair in PAIRS for name in pair)}
EVERY_NAME |= {*LISTS, *SCORES, *SINGLES, *LABELS, *TEMPLATE, *ABOUT, SOURCE}


@dataclass(frozen=True)
class Layout:
    """Which of our names is which column, and how a row becomes pairs.

    kind: "pairs" (two answers a row), "ranked" (a list of answers with scores), "labelled" (one answer a row, good or
    bad), "answers" (one right answer a row, to which wrong ones are made). implicit: the prompt is what both
    conversations begin with. transcripts: text of "Human: … Assistant: …". context: the column of the text that an
    instruction is about (Alpaca's `input`).
    """

    kind: str
    columns: dict[str, str]
    implicit: bool = False
    transcripts: bool = False
    context: str | None = None

    @property
    def read(self) -> set[str]:
        """The columns that are read."""
        return {*self.columns.values(), *((self.context,) if self.context else ())}

    def __str__(self) -> str:
        at = self.columns
        prompt = at.get("prompt", "") + (f" and {self.context}" if self.context else "")
        if self.implicit:
            prompt = "what both conversations begin with"
        if self.kind == "answers":
            answers = f"right answers from {at['chosen']}"
            prompt = f"what comes before them in {at['chosen']}" if self.implicit else prompt
        elif self.kind == "pairs":
            answers = f"answers from {at['chosen']} and {at['rejected']}"
        elif self.kind == "ranked":
            answers = f"answers from {at['answers']}, ranked by " + at.get("scores", "the score in each")
        else:
            answers = f"answers from {at['answer']}, good or bad by {at['label']}, paired by prompt"
        parts = [f"prompt from {prompt}", *([f"system text from {at['system']}"] if "system" in at else []), answers]
        return ", ".join(parts) + (", Human/Assistant transcripts" if self.transcripts else "")


def recognise(
    names: Iterable[str], sample: list[dict], told: dict[str, str] | None = None, answers_only: bool = False
) -> Layout:
    """How to read rows that have these columns. sample: the first rows; told: {our name: column}, which is followed.
    answers_only: rows have one right answer each, and no rejected one is looked for.

    Raises ValueError where a column is missing, and where several could be meant, which it lists.
    """
    names, told = list(names), dict(told or {})
    _check_told(names, told)
    filled = [name for name in names if any(row.get(name) not in (None, "", []) for row in sample)]
    find = _Finder(filled, told)
    kind, columns = _one_answer(names, find) if answers_only else _answers(names, find)
    columns |= {ours: column for ours in TEMPLATE if (column := told.get(ours, ours)) in names}
    if system := find("system", SYSTEMS):
        columns["system"] = system
    transcripts, implicit = False, False
    if kind in ("pairs", "answers") and "prompt" not in told:
        answers = [reread(row.get(columns[side])) for side in SIDES if side in columns for row in sample]
        transcripts = _most(answers, is_transcript)
        implicit = transcripts or _most(answers, starts_with_question)
    if implicit:
        raw = {"prompt": "prompt"} if "prompt" in names else {}
        return Layout(kind, columns | raw, implicit=True, transcripts=transcripts)
    alpaca = "prompt" not in told and {"instruction", "input"} <= set(filled) and "prompt" not in names
    prompt = find("prompt", PROMPTS[:3] if alpaca else PROMPTS) or ("prompt" if "prompt" in names else None)
    if not prompt:
        raise ValueError(f"no prompt among its columns ({_listed(names)}); add or rename the column, or {SAY}")
    transcripts = _most([row.get(prompt) for row in sample], is_question_transcript)
    return Layout(kind, columns | {"prompt": prompt}, transcripts=transcripts, context="input" if alpaca else None)


SAY = 'say which it is, as in columns={"prompt": "question", "chosen": "best", "rejected": "worst"}'


class _Finder:
    """Finds the column of one of our names: the told one, else the only candidate that is there."""

    def __init__(self, there: list[str], told: dict[str, str]):
        self.there, self.told = there, told

    def __call__(self, ours: str, candidates: Iterable[str]) -> str | None:
        if ours in self.told:
            return self.told[ours]
        found = [name for name in candidates if name in self.there and name not in self.told.values()]
        if len(found) > 1 and found[0] != ours:  # our own name is meant, whatever else there is
            listed = " or ".join(map(repr, found))
            raise ValueError(f'the {ours} may be {listed}: say which, as in columns={{"{ours}": "{found[0]}"}}')
        return found[0] if found else None


def _answers(names: list[str], find: _Finder) -> tuple[str, dict[str, str]]:
    """The kind of the rows, and the columns that hold their answers."""
    told, own = find.told, PAIRS[0]
    if {*own} & set(told):
        return "pairs", {side: told.get(side, side) for side in own}
    pairs = [] if {"answers", "answer"} & set(told) else [pair for pair in PAIRS if set(pair) <= set(names)]
    if len(pairs) > 1 and pairs[0] != own:
        listed = " or ".join(f"{good!r} and {bad!r}" for good, bad in pairs)
        example = f'columns={{"chosen": "{pairs[0][0]}", "rejected": "{pairs[0][1]}"}}'
        raise ValueError(f"the answers may be {listed}: say which, as in {example}")
    if pairs:
        return "pairs", dict(zip(own, pairs[0], strict=True))
    if "answer" not in told and (answers := find("answers", LISTS)):
        scores = find("scores", SCORES)
        return "ranked", {"answers": answers} | ({"scores": scores} if scores else {})
    if (answer := find("answer", SINGLES)) and (label := find("label", LABELS)):
        return "labelled", {"answer": answer, "label": label}
    missing = [side for side in own if side not in names]
    single = find("answer", SINGLES) or next((name for name in TALKS if name in names), None)
    make = f"; if {single} holds right answers only, rejected='nearest' makes wrong ones" if single else ""
    raise ValueError(
        f"no {', '.join(missing)} among its columns ({_listed(names)}); add or rename the column, or {SAY}{make}"
    )


def _one_answer(names: list[str], find: _Finder) -> tuple[str, dict[str, str]]:
    """The column that holds one right answer a row: an answer, or a conversation that ends with it."""
    answer = find("chosen", ("chosen", *SINGLES)) or next((name for name in TALKS if name in names), None)
    if not answer:
        raise ValueError(f'no answer among its columns ({_listed(names)}); say which it is: columns={{"chosen": …}}')
    return "answers", {"chosen": answer}


def _check_told(names: list[str], told: dict[str, str]) -> None:
    for ours, column in told.items():
        if ours not in OURS:
            raise ValueError(f"columns has the key {ours!r}: give one of {', '.join(OURS)}")
        if column not in names:
            raise ValueError(f"columns names {column!r} for {ours}, which is not among its columns ({_listed(names)})")
    if twice := sorted({column for column in told.values() if list(told.values()).count(column) > 1}):
        raise ValueError(f"columns names {twice[0]!r} twice: each of our names needs a column of its own")


def starts_with_question(value) -> bool:
    """Whether an answer is a whole conversation, which begins with a system or a user message."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return value[0].get("role", value[0].get("from")) in ("system", "developer", "user", "human")


def _most(values: list, holds: Callable[[object], bool]) -> bool:
    """Whether it holds for more than half of the values that are there; a row that is otherwise is named later."""
    there = [value for value in values if value not in (None, "", [])]
    return bool(there) and sum(map(holds, there)) > len(there) / 2


def _listed(names: list[str]) -> str:
    shown = ", ".join(str(name) for name in names[:12])
    return shown + (f", and {len(names) - 12} more" if len(names) > 12 else "")
