"""Check preference pairs row by row, before a run costs an hour."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from datasets import Dataset

from helpers.data.schema import COLUMNS, ROLES, SIDES

TEXT_KEYS = ("name", "tool_call_id", "reasoning_content", "thinking")  # of a message; text where they are there


@dataclass
class Problem:
    """One thing wrong with one row, and how to fix it."""

    row: int
    column: str
    wrong: str
    fix: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.wrong}; {self.fix}"


@dataclass
class ValidationReport:
    """What validation found in `rows` rows of the data set called `name`."""

    name: str
    rows: int
    problems: list[Problem] = field(default_factory=list)

    def raise_if_invalid(self) -> None:
        """Raise a ValueError that names the first problem and counts the others."""
        if self.problems:
            others = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise ValueError(f"{self.name}: {self.problems[0]}{others}")

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows, {len(self.problems)} problems"
        return "\n".join([head, *map(str, self.problems[:10])])


def validate_preferences(dataset: Dataset, name: str = "preferences") -> ValidationReport:
    """Check every row: columns, messages, empty or equal responses, a prompt repeated inside a response."""
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        fix = f"give each row {', '.join(COLUMNS)}"
        return ValidationReport(name, len(dataset), [Problem(0, column, "is missing", fix) for column in missing])
    problems = [problem for row, example in enumerate(dataset) for problem in row_problems(row, example)]
    return ValidationReport(name, len(dataset), problems)


def row_problems(row: int, example: dict) -> Iterator[Problem]:
    """What is wrong with one row, which may be any dict that has the three columns."""
    malformed = [Problem(row, column, *wrong) for column in COLUMNS if (wrong := _malformed(column, example[column]))]
    if malformed:
        yield from malformed
        return
    yield from _template_problems(row, example)
    prompt = example["prompt"][-1]["content"].strip()
    for column in SIDES:
        text = _text(example[column])
        if not text.strip():
            yield Problem(row, column, "the response is empty", "write an answer or drop the row")
        elif len(prompt.split()) >= 4 and prompt in text:
            yield Problem(row, column, "repeats the prompt inside the response", "keep only the answer in it")
    if _text(example["chosen"]).strip() == _text(example["rejected"]).strip():
        yield Problem(row, "rejected", "equals the chosen response", "a pair needs two different answers")


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
