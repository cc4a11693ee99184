"""Preference pairs → tokens: text as the template renders it, then prompt and response fitted into a length."""

import hashlib
import re
import unicodedata
from pathlib import Path

import pyarrow
from datasets import Dataset

from helpers.data.row_checks import checked, is_checked, readable_pair, system_column, tell_left_out
from helpers.data.schema import COLUMNS, SIDES
from helpers.data.template import in_row, render_rows
from helpers.files import cache_folder
from helpers.objective.labels import IGNORE

BATCH = 500  # rows that are tokenised at once
LARGE = 10_000  # rows of a data set from which its tokens are kept on disk
SHORTEST_PROMPT = 8  # tokens of the prompt that are kept even when a response alone would fill the row


def response_ids(prompt_ids: list[int], whole_ids: list[int], response: str, tokenizer) -> list[int]:
    """The tokens that follow `prompt_ids` in a conversation, whose tokens are `whole_ids`.

    The whole is tokenised, since some tokenizers (Llama 2, Mistral) put a space in front of every text they are given.
    Where one token spans the boundary, the response is tokenised apart: generation starts after the prompt's tokens.
    """
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        return whole_ids[len(prompt_ids) :]
    return tokenizer(response, add_special_tokens=False)["input_ids"]


def _check_decoded(decoded: str, text: str) -> None:
    """Raise a ValueError where tokens are another text than the conversation."""
    if decoded != text and (found := _plain(decoded)) != (text := _plain(text)):
        at = next((i for i, (a, b) in enumerate(zip(found, text, strict=False)) if a != b), 0)
        raise ValueError(
            f"the tokenizer turns {text[at : at + 20]!r} into {found[at : at + 20]!r}: change that text, or use a "
            "model whose tokenizer can write it"
        )


def _plain(text: str) -> str:
    """The text without what tokenizers may normalise: white space and Unicode's compatible forms."""
    return re.sub(r"[\s▁]+", "", unicodedata.normalize("NFKC", text))


def tokenize_preferences(
    dataset: Dataset,
    tokenizer,
    max_length: int,
    max_prompt_length: int | None = None,
    processes: int | None = None,
) -> Dataset:
    """Fit every pair into `max_length` tokens: prompt + response, with labels on the response only.

    Returns `chosen_input_ids`, `chosen_labels`, `rejected_input_ids`, `rejected_labels` (lists of int; labels are
    −100 on the prompt), `prompt_length` (tokens; the same prompt starts both rows), `length` (tokens of the longer
    row), `prompt_cut`, `chosen_cut`, `rejected_cut` (tokens lost to truncation) and `row` (the position in `dataset`).
    EOS is kept whatever is cut. Rows that did not come from `load_preferences` are checked as it does, and what nothing
    reads is told. A row that can't be trained on, rendered or tokenised raises a ValueError that names it.
    """
    _check_arguments(dataset, tokenizer, max_length, max_prompt_length)
    known, system = is_checked(dataset), system_column(dataset.column_names)
    if not known:
        tell_left_out(dataset)

    def tokenize(batch: dict, rows: list[int]) -> pyarrow.Table:
        examples = [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]
        if system or not known:
            examples = [readable_pair(row, example, system) for row, example in zip(rows, examples, strict=True)]
        fitted = tokenize_rows(examples, rows, tokenizer, max_length, max_prompt_length)
        return pyarrow.table({name: [each[name] for each in fitted] for name in fitted[0]})  # lists are slow to store

    how = {"batched": True, "batch_size": BATCH, "with_indices": True, "remove_columns": dataset.column_names}
    kept = _kept_at(dataset, tokenizer, max_length, max_prompt_length)
    # The cache of `datasets` does not see a change of the functions called here, and would return what they once made
    where = {"cache_file_name": kept} if kept else {"load_from_cache_file": False}
    tokens = dataset.map(tokenize, desc="Tokenising", num_proc=processes, **how, **where)
    checked(dataset)
    return tokens


def tokenize_rows(examples, rows, tokenizer, max_length: int, max_prompt_length: int | None = None) -> list[dict]:
    """The same for a few examples, and their row numbers, without a Dataset."""
    texts = render_rows(rows, examples, tokenizer)
    cut = (fit_pair(each, tokenizer, max_length, max_prompt_length) for each in _ids(texts, rows, tokenizer))
    return [each | {"row": row} for each, row in zip(cut, rows, strict=True)]


def _kept_at(dataset: Dataset, tokenizer, *lengths: int | None) -> str | None:
    """Where the tokens of a large data set are kept: named by all that decides them. None for small ones."""
    if len(dataset) < LARGE or not tokenizer.is_fast:
        return None
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    words = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template) + str(tokenizer.special_tokens_map)
    about = repr((dataset._fingerprint, hashlib.sha256(words.encode()).hexdigest(), lengths)).encode()
    folder = cache_folder() / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{hashlib.sha256(code + about).hexdigest()[:16]}.arrow")


def _ids(texts: list[dict], rows: list[int], tokenizer) -> list[dict[str, list[int]]]:
    """Token ids of prompt, chosen and rejected of rendered rows, at once, which a fast tokenizer does in threads."""
    asked = [text["prompt"] for text in texts]
    found = [{"prompt": ids} for ids in _encoded(asked, tokenizer)]
    added = _splitting(tokenizer)
    starts = [_last_split(text, each["prompt"], added) for text, each in zip(asked, found, strict=True)]
    tails = [text["prompt"][at:] + text[side] for side in SIDES for text, (at, _) in zip(texts, starts, strict=True)]
    tail_ids = iter(_encoded(tails, tokenizer))
    for side in SIDES:
        for row, text, each, (_, kept) in zip(rows, texts, found, starts, strict=True):
            each[side] = response_ids(each["prompt"], each["prompt"][:kept] + next(tail_ids), text[side], tokenizer)
            if len(each[side]) < 2:
                raise ValueError(f"row {row}, {side}: the response is empty; write an answer or drop the row")
        decoded = _decoded([each["prompt"] + each[side] for each in found], tokenizer)
        for row, text, written in zip(rows, texts, decoded, strict=True):
            in_row(row, _check_decoded, written, text["prompt"] + text[side])
    return found


def _splitting(tokenizer) -> dict[int, str]:
    """The added tokens at which a fast tokenizer splits every text before all else, by id."""
    added = tokenizer.added_tokens_decoder.items() if tokenizer.is_fast else ()
    unknown = tokenizer.unk_token_id  # which also stands for text that the tokenizer can't write
    return {id_: str(t) for id_, t in added if not (t.normalized or t.single_word or id_ == unknown)}


def _last_split(prompt: str, ids: list[int], added: dict[int, str]) -> tuple[int, int]:
    """Where the last added token of a prompt starts: characters and tokens before it; (0, 0) where there is none.

    What stands before an added token need not be encoded again with each answer: each part is encoded by itself.
    """
    kept = next((at for at in range(len(ids) - 1, -1, -1) if ids[at] in added), 0)
    characters = prompt.rfind(added[ids[kept]]) if kept else 0
    return (characters, kept) if characters > 0 else (0, 0)


def _encoded(texts: list[str], tokenizer) -> list[list[int]]:
    if not tokenizer.is_fast:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]
    core = tokenizer.backend_tokenizer
    core.no_padding()  # which an earlier call may have left on
    core.no_truncation()
    return [encoding.ids for encoding in core.encode_batch_fast(texts, add_special_tokens=False)]


def _decoded(ids: list[list[int]], tokenizer) -> list[str]:
    if tokenizer.is_fast:
        return tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=False)  # in threads
    return tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)


def _check_arguments(dataset, tokenizer, max_length: int, max_prompt_length: int | None) -> None:
    if isinstance(dataset, dict):
        raise ValueError(
            f"a dict of data sets ({', '.join(map(str, dataset))}): give one split, such as dataset['train'], and one "
            "data set as eval_dataset"
        )
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{type(dataset).__name__} can't be tokenised: for a stream, take its rows with Dataset.from_list(list(…))"
        )
    if missing := [column for column in COLUMNS if column not in dataset.column_names]:
        raise ValueError(
            f"column {missing[0]} is missing: give each row {', '.join(COLUMNS)}, as load_preferences does"
        )
    if max_length < SHORTEST_PROMPT + 2:
        raise ValueError(f"max_length is {max_length}: give at least {SHORTEST_PROMPT + 2} tokens")
    if max_prompt_length is not None and max_prompt_length < 1:
        raise ValueError(f"max_prompt_length is {max_prompt_length}: give at least 1 token, or None for no limit")
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no EOS token: set tokenizer.eos_token, or the model never stops")


def fit_pair(ids: dict[str, list[int]], tokenizer, max_length: int, max_prompt_length: int | None = None) -> dict:
    """Token ids of `prompt`, `chosen` and `rejected`, cut where they must be, as the columns of a tokenised pair."""
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
