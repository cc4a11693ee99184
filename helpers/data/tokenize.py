"""Preference pairs → tokens: the chat template applied once, then prompt and response fitted into a length."""

from datasets import Dataset

from helpers.data.schema import COLUMNS
from helpers.objective.labels import IGNORE

SHORTEST_PROMPT = 8  # tokens of the prompt that are kept even when a response alone would fill the row


def render(example: dict, tokenizer) -> dict[str, str]:
    """The exact text a model reads: the chat template applied once, cut at the boundary of prompt and response.

    Returns `prompt` (ending with the assistant's header), `chosen` and `rejected` (ending with EOS).
    Raises ValueError where the template does not keep the prompt as a prefix of the conversation.
    """
    prompt = tokenizer.apply_chat_template(example["prompt"], tokenize=False, add_generation_prompt=True)
    return {"prompt": prompt} | {
        column: _rendered_response(prompt, example["prompt"] + example[column], tokenizer)
        for column in ("chosen", "rejected")
    }


def _rendered_response(prompt: str, conversation: list[dict], tokenizer) -> str:
    whole = tokenizer.apply_chat_template(conversation, tokenize=False)
    if not whole.startswith(prompt):
        raise ValueError(
            "the chat template renders prompt + response so that the prompt is no prefix of it: "
            "use a template whose generation prompt equals the assistant's header"
        )
    response = whole[len(prompt) :]
    end = response.rfind(tokenizer.eos_token)  # templates may add a newline after EOS, which nobody should learn
    return response[:end] + tokenizer.eos_token if end >= 0 else response + tokenizer.eos_token


def tokenize_preferences(dataset: Dataset, tokenizer, max_length: int, max_prompt_length: int | None = None) -> Dataset:
    """Fit every pair into `max_length` tokens: prompt + response, with labels on the response only.

    Returns `chosen_input_ids`, `chosen_labels`, `rejected_input_ids`, `rejected_labels` (lists of int; labels are
    −100 on the prompt), `prompt_length` (tokens; the same prompt starts both rows), `length` (tokens of the longer
    row), `prompt_cut`, `chosen_cut`, `rejected_cut` (tokens lost to truncation) and `row` (the position in `dataset`).
    EOS is kept whatever is cut.
    """
    if max_length < SHORTEST_PROMPT + 2:
        raise ValueError(f"max_length is {max_length}: give at least {SHORTEST_PROMPT + 2} tokens")
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no EOS token: set tokenizer.eos_token, or the model never stops")

    def tokenize(example: dict, row: int) -> dict:
        text = render(example, tokenizer)
        ids = {name: tokenizer(part, add_special_tokens=False)["input_ids"] for name, part in text.items()}
        for column in ("chosen", "rejected"):
            if len(ids[column]) < 2:
                raise ValueError(f"row {row}, {column}: the response is empty; write an answer or drop the row")
        return _fit(ids, tokenizer, max_length, max_prompt_length) | {"row": row}

    # The cache of `datasets` does not see a change of the functions called here, and would return what they once made
    fresh = {"load_from_cache_file": False, "desc": "Tokenising"}
    return dataset.map(tokenize, with_indices=True, remove_columns=dataset.column_names, **fresh)


def _fit(ids: dict[str, list[int]], tokenizer, max_length: int, max_prompt_length: int | None) -> dict:
    longest = max(len(ids["chosen"]), len(ids["rejected"]))
    room = max(max_length - longest, SHORTEST_PROMPT)
    if max_prompt_length is not None:
        room = min(room, max_prompt_length)
    prompt = _cut_left(ids["prompt"], room, tokenizer.bos_token_id)
    fitted = {"prompt_length": len(prompt), "prompt_cut": len(ids["prompt"]) - len(prompt)}
    for column in ("chosen", "rejected"):
        response = _cut_right(ids[column], max_length - len(prompt), tokenizer.eos_token_id)
        fitted[f"{column}_input_ids"] = prompt + response
        fitted[f"{column}_labels"] = [IGNORE] * len(prompt) + response
        fitted[f"{column}_cut"] = len(ids[column]) - len(response)
    return fitted | {"length": max(len(fitted["chosen_input_ids"]), len(fitted["rejected_input_ids"]))}


def _cut_left(prompt: list[int], room: int, bos: int | None) -> list[int]:
    if len(prompt) <= room:
        return prompt
    # Some models (Llama 3) never saw a text without BOS: it stays in front of what is kept.
    starts_with_bos = bos is not None and prompt[0] == bos and room > 1
    return [bos, *prompt[-(room - 1) :]] if starts_with_bos else prompt[-room:]


def _cut_right(response: list[int], room: int, eos: int) -> list[int]:
    return response if len(response) <= room else [*response[: room - 1], eos]


def truncation_report(tokenized: Dataset) -> str:
    """One line: how many rows lost prompt or response tokens."""
    cut = {name: sum(n > 0 for n in tokenized[f"{name}_cut"]) for name in COLUMNS}
    longest = max(len(ids) for side in ("chosen", "rejected") for ids in tokenized[f"{side}_input_ids"])
    parts = ", ".join(f"{name} in {count}" for name, count in cut.items())
    return f"{len(tokenized)} pairs, longest row {longest} tokens; tokens cut from {parts} rows"


def response_tokens(example: dict, side: str) -> int:
    """Tokens of the chosen or the rejected response, EOS included."""
    return len(example[f"{side}_input_ids"]) - example["prompt_length"]
