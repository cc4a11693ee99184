"""Conversations as other tools write them → lists of {"role", "content"} messages."""

import ast
import json
import re

from helpers.data.schema import ROLES, as_messages, encoded, without_nulls

FROM = {  # ShareGPT's names of the speakers
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking")


# Messages that were stored as text begin with an object, or a list of them, and name a speaker and what was said
OBJECT = re.compile(r"\s*(?:\[\s*)?\{")
SPEAKER, SAID = (re.compile(rf"(['\"])(?:{keys})\1\s*:") for keys in ("role|from", "content|value"))
IN_QUOTES_OR_BETWEEN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(\})\s+(?=\{)", re.DOTALL)


def reread(value):
    """Messages that were stored as text (JSON, or as pandas writes lists and NumPy's arrays to CSV); else the value."""
    if isinstance(value, str) and OBJECT.match(value) and SPEAKER.search(value):
        found = _parsed(value.strip())
        if (isinstance(found, list) and all(map(_is_message, found))) or _is_whole_message(found):
            return found
    return value


def _parsed(text: str):
    """What a text of JSON, of Python, or of NumPy's arrays holds; None for any other."""
    for read in (json.loads, ast.literal_eval, _read_array):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _read_array(text: str):
    """A list as NumPy prints it, without commas between its objects."""
    return ast.literal_eval(IN_QUOTES_OR_BETWEEN.sub(lambda found: "}, " if found[1] else found[0], text))


def _is_message(value) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _is_whole_message(value) -> bool:
    """Whether an object is one message, and no answer that is JSON."""
    if not isinstance(value, dict):
        return False
    return set(value) == {"from", "value"} or ({"role", "content"} <= set(value) and value["role"] in ROLES)


def _is_unreadable(value) -> bool:
    """Whether a text looks like stored messages, and can't be read as such."""
    if not (isinstance(value, str) and OBJECT.match(value) and value.strip()[0] + value.strip()[-1] == "[]"):
        return False
    return bool(SPEAKER.search(value) and SAID.search(value)) and _parsed(value.strip()) is None


def conversation(column: str, value, transcript: bool = False):
    """The value as messages: a string as one message, ShareGPT's from/value as role/content, transcripts turn by turn.

    What is none of these is left for validation to judge. Raises ValueError for a transcript or a speaker that can't
    be read.
    """
    value = reread(value)
    if _is_unreadable(value):
        raise ValueError(
            f"holds messages as text that can't be read ({value.strip()[:40]!r}); write them as JSON, or keep the "
            "table as Parquet or JSON Lines"
        )
    if transcript and isinstance(value, str):
        return turns(value)
    if isinstance(value, dict) and "from" in value:
        value = [value]
    if isinstance(value, list):
        return [_message(message) if isinstance(message, dict) else message for message in value]
    return as_messages(column, value)


def _message(message: dict) -> dict:
    if "from" in message and "role" not in message:
        speaker = message["from"]
        if not isinstance(speaker, str) or speaker not in FROM:
            raise ValueError(f"has a message from {speaker!r}; write one of {', '.join(FROM)}")
        return {"role": FROM[speaker], "content": message.get("value")}
    return {
        key: encoded(value) if key == "tool_calls" else without_nulls(value)
        for key, value in message.items()
        if value is not None or key in ("role", "content")
    }


def is_transcript(value) -> bool:
    """Whether a text is "Human: …", then "Assistant: …", as in Anthropic's hh-rlhf."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def is_question_transcript(value) -> bool:
    """Whether a prompt is a transcript, which ends where the assistant is to speak."""
    return is_transcript(value) and value.rstrip().endswith("\n\nAssistant:")


def turns(text: str) -> list[dict]:
    """The messages of a transcript; a last turn that is empty is left out."""
    parts = TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise ValueError("is no transcript, unlike other rows; begin it with 'Human:'")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    found = [{"role": SPEAKERS[speaker], "content": said.strip()} for speaker, said in pairs]
    return found
