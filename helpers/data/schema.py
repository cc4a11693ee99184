"""The columns of a preference data set, and what a chat template gets from a row."""

import json

COLUMNS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # DPO's, made by helpers.training.dpo_reference
TEMPLATE = ("tools", "chat_template_kwargs")  # TRL's names for what else changes the prompt
ABOUT = ("group", "service", "operation", "rejected_kind", "rejected_from")  # what a row is about, for evaluation
SOURCE = "source"  # where a row is from: counted, not kept
ONE_SIDED = 0.9  # share of the rows that one group, or one source, should not have
FOR_CHECKER = ("draft", "summary")  # of a built-in domain: by these the house style's checker judges answers
ROLES = ("system", "developer", "user", "assistant", "tool")


def as_messages(column: str, value):
    """A plain string as one message: the user's in `prompt`, the assistant's elsewhere. Anything else as it is."""
    if not isinstance(value, str):
        return value
    return [{"role": "user" if column == "prompt" else "assistant", "content": value}]


def messages_of(example: dict, column: str) -> list[dict]:
    """The messages of a column as a template should see them: without the nulls that Arrow adds to other rows' keys."""
    return [
        {
            key: _decoded(value) if key == "tool_calls" else without_nulls(value)
            for key, value in message.items()
            if value is not None
        }
        for message in as_messages(column, example[column])
    ]


def system_text_first(messages: list[dict]) -> list[dict]:
    """The messages with the system text in front of the first user message, for templates without a system role.

    This is what Gemma's makers advise. Raises ValueError where no user message follows.
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    if not system:
        return messages
    others = [message for message in messages if message["role"] != "system"]
    first = next((i for i, message in enumerate(others) if message["role"] == "user"), None)
    if first is None:
        raise ValueError("the system text has no user message to stand in front of; add one")
    merged = others[first] | {"content": "\n\n".join([*system, others[first]["content"]])}
    return [*others[:first], merged, *others[first + 1 :]]


def template_arguments(example: dict) -> dict:
    """`tools` and the entries of `chat_template_kwargs` of a row, for `apply_chat_template`."""
    tools, more = (_decoded(example.get(name)) for name in TEMPLATE)
    return ({"tools": tools} if tools else {}) | (more or {})


def encoded(value):
    """Lists and dicts as JSON text: Arrow would merge their keys over rows, and fill in nulls."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _decoded(value):
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.loads(value)
    return without_nulls(value)


def without_nulls(value):
    """Lists and dicts without entries that are None, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def references(dataset) -> list[str]:
    """The chosen answers as plain text."""
    return [chosen[-1]["content"] for chosen in dataset["chosen"]]
