"""What is wrong with one row: told of rows as they were written, whichever door they come through."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.data.columns import SYSTEMS
from helpers.data.messages import MESSAGE_KEYS, conversation, is_transcript
from helpers.data.schema import ABOUT, COLUMNS, FOR_CHECKER, ROLES, SIDES, SOURCE, TEMPLATE

TEXT_KEYS = ("name", "tool_call_id", "reasoning_content", "thinking")  # of a message; text where they are there
CHECKED: set[str] = set()  # fingerprints of data sets whose rows were checked in this process


@dataclass
class Problem:
    """One thing wrong with one row, and how to fix it. kind: what such things are called in the report."""

    row: int
    column: str
    wrong: str
    fix: str
    kind: str = "unusable"

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.wrong}; {self.fix}"


class RowError(ValueError):
    """What is wrong with a row, in which column, and the fix."""

    def __init__(self, column: str, wrong: str, fix: str, is_missing: bool = False):
        super().__init__(f"{column}: {wrong}; {fix}")
        self.column, self.wrong, self.fix, self.is_missing = column, wrong, fix, is_missing


def row_problems(row: int, example: dict, sides: tuple[str, ...] = SIDES) -> Iterator[Problem]:
    """What is wrong with one row, which may be any dict that has the prompt and the answers named in `sides`."""
    columns = ("prompt", *sides)
    malformed = [Problem(row, column, *wrong) for column in columns if (wrong := _malformed(column, example[column]))]
    if malformed:
        yield from malformed
        return
    yield from _template_problems(row, example)
    prompt = example["prompt"][-1]["content"].strip()
    for column in sides:
        text = _text(example[column])
        if not text.strip():
            yield Problem(row, column, "the response is empty", "write an answer or drop the row", "empty")
        elif len(prompt.split()) >= 4 and prompt in text:
            yield Problem(
                row, column, "repeats the prompt inside the response", "keep only the answer in it", "prompt in it"
            )
    if sides == SIDES and _text(example["chosen"]).strip() == _text(example["rejected"]).strip():
        yield Problem(
            row, "rejected", "equals the chosen response", "a pair needs two different answers", "equal answers"
        )


def _template_problems(row: int, example: dict) -> Iterator[Problem]:
    """What is wrong with the columns that go to the chat template."""
    for column, kind, name in (("tools", list, "list of tools"), ("chat_template_kwargs", dict, "dict")):
        value = example.get(column)
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except ValueError:
                yield Problem(row, column, "is text that is no JSON", f"give a {name}, or its JSON")
                continue
        if value not in (None, "") and not isinstance(value, kind):
            yield Problem(row, column, f"is {type(value).__name__}", f"give a {name}")


def _malformed(column: str, messages) -> tuple[str, str] | None:
    wanted = 'a list of {"role", "content"} messages'
    if not isinstance(messages, list) or not messages:
        return f"is {type(messages).__name__} or empty", f"give {wanted}"
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            return f"holds {str(message)[:60]!r}", f"give {wanted}, both strings"
        if key := next((k for k in TEXT_KEYS if not isinstance(message.get(k) or "", str)), None):
            return f"has a message whose {key} is {type(message[key]).__name__}", "write a string"
        if message["role"] not in ROLES:
            return f"has the role {message['role']!r}", f"write one of {', '.join(ROLES)}"
    if column == "prompt" and messages[-1]["role"] == "assistant":
        return "ends with the assistant's message", "move that message into chosen and rejected"
    if column != "prompt" and messages[0]["role"] != "assistant":
        return (
            f"starts with the role {messages[0]['role']!r}",
            "a response holds the assistant's messages only",
        )
    if column != "prompt" and (other := next((m["role"] for m in messages if m["role"] != "assistant"), None)):
        return (
            f"has a turn of the role {other!r}, which would be learnt as the assistant's",
            "move all turns before the last answer into the prompt",
        )
    return None


def _text(messages: list[dict]) -> str:
    return "\n".join(message["content"] for message in messages)


def put_system(pair: dict) -> None:
    """The text of the column `system` as the first message of the prompt."""
    system = pair.pop("system", None)
    if system is None or system == "":
        return
    if not isinstance(system, str):
        raise RowError("system", f"is {type(system).__name__}", "write a string")
    if pair["prompt"][0]["role"] == "system":
        raise RowError("system", "the prompt has a system message too", "keep one of them")
    pair["prompt"] = [{"role": "system", "content": system}, *pair["prompt"]]


# ── rows that did not come from `load_preferences` ──


def checked(dataset):
    """The data set, noted as one whose rows need no other check. What is made from it has another fingerprint."""
    CHECKED.add(dataset._fingerprint)
    return dataset


def is_checked(dataset) -> bool:
    """Whether the rows of a data set were checked, by `load_preferences` or when they were tokenised before."""
    return dataset._fingerprint in CHECKED


def system_column(names: list[str]) -> str | None:
    """The column that holds system texts, if there is one."""
    return next((name for name in SYSTEMS if name in names), None)


def readable_pair(row: int, example: dict, system: str | None) -> dict:
    """A row as `load_preferences` gives it: messages alone, the system text in the prompt.

    system: the column of that text. Raises ValueError, which names the row, for one that can't be trained on.
    """
    try:
        pair = example | {column: _messages(column, example[column]) for column in COLUMNS}
        pair["system"] = example[system] if system else None
        found = next(row_problems(row, pair), None)
        if not found:
            put_system(pair)
            return pair
    except RowError as error:
        found = Problem(row, error.column, error.wrong, error.fix)
    raise ValueError(str(found))


def _messages(column: str, value):
    """Text as messages, and of messages the keys that are read."""
    if isinstance(value, list):
        known = [isinstance(message, dict) and "role" in message for message in value]
        return [{key: m[key] for key in MESSAGE_KEYS if key in m} for m in value] if all(known) else value
    if is_transcript(value):
        raise RowError(column, "is a Human/Assistant transcript", "read the pairs with load_preferences")
    try:
        return conversation(column, value)
    except ValueError as error:
        wrong, _, fix = str(error).rpartition("; ")
        raise RowError(column, wrong, fix) from error


def tell_left_out(dataset) -> None:
    """Print which columns, and which keys of messages, nothing reads."""
    known = {*COLUMNS, *TEMPLATE, *ABOUT, *FOR_CHECKER, SOURCE, system_column(dataset.column_names)}
    left_out = sorted({*dataset.column_names} - known)
    left_out += [f"{key} of messages" for key in message_keys(dataset) if key not in MESSAGE_KEYS]
    if left_out:
        print(f"the data set: nothing reads {', '.join(left_out)}; left out")


def message_keys(dataset) -> list[str]:
    """The keys of the messages in a data set's prompts and answers, where these are messages."""
    inner = [fields_of(dataset.features.get(column)) for column in COLUMNS]
    return list(dict.fromkeys(key for fields in inner for key in fields))


def fields_of(feature) -> dict:
    """The fields of a column of lists of objects; {} for any other column."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else None)
    return inner if isinstance(inner, dict) else {}
