"""Pairs as people hand them to a trainer or an evaluation → conversations, as `load_preferences` reads them."""

import itertools
import re

from datasets import Dataset

from helpers.data.columns import starts_with_question
from helpers.data.load import load_preferences
from helpers.data.messages import is_transcript
from helpers.data.row_checks import fields_of, is_checked, system_column
from helpers.data.schema import COLUMNS, SIDES


def as_conversations(dataset: Dataset) -> Dataset:
    """Rows with `prompt`, `chosen` and `rejected` as lists of messages; `load_preferences` reads what is not so yet.

    Rows that are so already stay as they are: `tokenize_preferences` checks them while it has them in its hands.
    """
    if is_checked(dataset) and _are_conversations(dataset):
        return dataset
    missing = [column for column in SIDES if column not in dataset.column_names]
    if missing:
        raise ValueError(f"column {missing[0]} is missing: give each row {', '.join(COLUMNS)}")
    first = dataset[0]
    in_words = all(isinstance(first[side], str) and not is_transcript(first[side]) for side in SIDES)
    if in_words and "prompt" not in first:
        dataset = dataset.map(with_common_beginning, with_indices=True, load_from_cache_file=False)
    if _are_conversations(dataset) and not starts_with_question(first["chosen"]):
        return dataset
    return load_preferences(dataset)


def _are_conversations(dataset: Dataset) -> bool:
    """Whether prompt and answers can be lists of messages alone, and all of the prompt stands in its column."""
    typed = all({"role", "content"} <= set(fields_of(dataset.features.get(column))) for column in COLUMNS)
    return typed and not system_column(dataset.column_names)


def with_common_beginning(example: dict, row: int) -> dict:
    """The words with which both texts begin as `prompt`, as TRL has it, and what follows them as the answers."""
    words = [re.findall(r"\s*\S+", example[side]) for side in SIDES]
    common = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*words, strict=False)))
    prompt = "".join(word for word, _ in common)
    answers = {side: example[side][len(prompt) :] for side in SIDES}
    if not prompt.strip() or not all(answer.strip() for answer in answers.values()):
        raise ValueError(f"row {row}: chosen and rejected have no beginning in common, or nothing else: give a prompt")
    return {"prompt": prompt.strip()} | {side: answer.strip() for side, answer in answers.items()}
