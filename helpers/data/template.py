"""The exact text that a model reads of a pair: the chat template applied once, cut where the response begins."""

import contextlib
from itertools import pairwise

from helpers.data.schema import SIDES, messages_of, template_arguments

MERGE = "load the pairs with system_in_user=True, which puts the system text in front of the first user message"


def render(example: dict, tokenizer) -> dict[str, str]:
    """The exact text a model reads: the chat template applied once, cut at the boundary of prompt and response.

    Returns `prompt` (ending with the assistant's header), `chosen` and `rejected` (ending with EOS). The row's `tools`
    and `chat_template_kwargs` go to the template, as in TRL. Raises ValueError where the template refuses the
    messages, or does not keep the prompt as a prefix of the conversation.
    """
    asked, more = messages_of(example, "prompt"), template_arguments(example)
    prompt = apply_template(tokenizer, asked, add_generation_prompt=True, **more)
    text = {"prompt": prompt}
    for side in SIDES:
        answer = messages_of(example, side)
        _refuse_eos(answer, side, tokenizer.eos_token)
        whole = apply_template(tokenizer, asked + answer, **more)
        text[side] = _response(prompt, whole, asked, tokenizer.eos_token)
    return text


def render_rows(rows: list[int], examples: list[dict], tokenizer) -> list[dict[str, str]]:
    """`render` of every row. Rows without arguments of their own go to the template at once, in half of the time."""
    if not any(template_arguments(example) for example in examples):
        with contextlib.suppress(ValueError):  # which one by one names the row
            return _at_once(examples, tokenizer)
    return [in_row(row, render, example, tokenizer) for row, example in zip(rows, examples, strict=True)]


def _at_once(examples: list[dict], tokenizer) -> list[dict[str, str]]:
    asked = [messages_of(example, "prompt") for example in examples]
    eos = tokenizer.eos_token
    texts = [{"prompt": text} for text in apply_template(tokenizer, asked, add_generation_prompt=True)]
    for side in SIDES:
        answers = [messages_of(example, side) for example in examples]
        for answer in answers:
            _refuse_eos(answer, side, eos)
        wholes = apply_template(tokenizer, [one + other for one, other in zip(asked, answers, strict=True)])
        for text, whole, messages in zip(texts, wholes, asked, strict=True):
            text[side] = _response(text["prompt"], whole, messages, eos)
    return texts


def apply_template(tokenizer, messages: list, **how) -> str | list[str]:
    """The text of a conversation, or of each of several; a ValueError says what the template refuses, and the fix."""
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template: take the instruction-tuned model, or set tokenizer.chat_template"
        )
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **how)
    except Exception as error:  # a template is a program of the model's maker: it may fail in any way
        several = bool(messages) and not isinstance(messages[0], dict)
        roles = [message["role"] for message in (messages[0] if several else messages)]
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"the chat template refuses the messages ({', '.join(roles)}): {cause}; {_fix(roles)}"
        ) from error


def _fix(roles: list[str]) -> str:
    """What to do about messages that a template refuses."""
    if "system" in roles:
        return f"{MERGE}, or use another model's template"
    if any(one == next_ for one, next_ in pairwise(roles)):
        return "join neighbouring messages of one role into one, or use another model's template"
    return "change the row's messages, or use another model's template"


def _refuse_eos(answer: list[dict], side: str, eos: str) -> None:
    if any(eos in message["content"] for message in answer):
        raise ValueError(
            f"{side}: the answer contains the EOS text {eos!r}, where the model would learn to stop; "
            "remove it (EOS is added for you)"
        )


def _response(prompt: str, whole: str, asked: list[dict], eos: str) -> str:
    """What follows the prompt in a rendered conversation, with EOS at its end."""
    if not whole.startswith(prompt):
        lost = [text for message in asked if (text := message["content"].strip()) in prompt and text not in whole]
        if lost:
            raise ValueError(
                f"the chat template leaves out {lost[0][:40]!r} once an answer follows: {MERGE}, "
                "or use another model's template"
            )
        raise ValueError(
            "the chat template renders prompt + response so that the prompt is no prefix of it: "
            "use a template whose generation prompt equals the assistant's header"
        )
    response = whole[len(prompt) :]
    if response.rstrip().endswith(eos):
        return response.rstrip()  # templates may add a newline after EOS, which nobody should learn
    return response + eos


def in_row(row: int, do, *arguments):
    """What `do` gives; its ValueError names the row."""
    try:
        return do(*arguments)
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from error
