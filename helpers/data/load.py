"""Load preference pairs from the built-in domain, a file or a folder."""

import ast
import functools
import hashlib
import json
from pathlib import Path

import botocore
from datasets import Dataset, DatasetDict, load_from_disk

from helpers.data.read import read_rows
from helpers.data.schema import ABOUT, COLUMNS, TEMPLATE, as_messages, encoded, system_text_first
from helpers.data.validate import ValidationReport, row_problems
from helpers.files import cache_folder, make_atomically

BUILT_IN = "aws-api"


def load_preferences(
    source=BUILT_IN,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    system_in_user: bool = False,
) -> Dataset:
    """Preference pairs from the built-in domain ("aws-api"), a .jsonl or .parquet file, or a folder of them.

    A folder holds `<split>.jsonl` or `<split>.parquet`, or the hub's parts, `<split>-00000-of-00002.parquet` and so on.
    A single file is the split "train", unless its name holds the name of another. A plain string in place of a message
    list is taken as the user's prompt or the assistant's answer. A `system` column becomes the first message; `tools`
    and `chat_template_kwargs` go to the chat template; columns that nothing reads are left out, and a printed line
    says so. `limit` keeps a seeded random sample of the rows.

    With `system_in_user` the system text stands in front of the first user message, for models whose template has no
    system role (Gemma, Mistral); a printed line says in how many rows.

    Raises ValueError for a bad file or row (file, row or line, and the fix), FileNotFoundError where there is none.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{limit} pairs were asked for: give at least 1, or no number for all of them")
    dataset = _built_in(split) if source == BUILT_IN else _from_files(_find_files(Path(source), split))
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return system_texts_moved(dataset) if system_in_user else dataset


def system_texts_moved(dataset: Dataset) -> Dataset:
    """The pairs with the text of system messages in front of the first user message; prints in how many rows."""
    rows = dataset.map(
        lambda row, number: {"prompt": _moved(row["prompt"], number)}, with_indices=True, load_from_cache_file=False
    )
    moved = sum(old != new for old, new in zip(dataset["prompt"], rows["prompt"], strict=True))
    print(f"system text put in front of the first user message in {moved} of {len(dataset)} rows")
    return rows


def _moved(prompt: list[dict], number: int) -> list[dict]:
    try:
        return system_text_first(prompt)
    except ValueError as error:
        raise ValueError(f"row {number}, prompt: {error}") from error


@functools.cache
def _domain() -> DatasetDict:
    """The built-in domain, made once (seconds) and kept in the cache folder for this code and botocore's version."""
    from helpers.data import aws_operations
    from helpers.data import aws_pairs as domain

    code = b"".join(Path(module.__file__).read_bytes() for module in (aws_operations, domain))
    key = hashlib.sha256(code + botocore.__version__.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{BUILT_IN}-{key}"
    if not folder.is_dir():
        make_atomically(folder, lambda temporary: domain.build_domain().save_to_disk(temporary))
    return load_from_disk(folder)


def _built_in(split: str) -> Dataset:
    splits = _domain()  # the split by service is fixed; the seed only picks rows, so runs stay comparable
    if split not in splits:
        raise ValueError(f"split {split!r} is not one of {', '.join(splits)}: choose one of these")
    return splits[split]


def _find_files(path: Path, split: str) -> list[Path]:
    """The file, or what a folder holds of the split: one whole file before any parts."""
    if path.is_file():
        if split != "train" and split not in path.name:
            raise ValueError(
                f"{path.name} is one file, whose rows are for training: for the split {split!r} give a folder with "
                f"train.jsonl and {split}.jsonl"
            )
        return [path]
    for pattern in (f"{split}.jsonl", f"{split}.parquet", f"{split}-*.jsonl", f"{split}-*.parquet"):
        if found := sorted(file for file in path.glob(pattern) if file.is_file()):
            return found
    raise FileNotFoundError(
        f"no preference data at {path}: give {BUILT_IN!r}, a .jsonl or .parquet file, or a folder with "
        f"{split}.jsonl or {split}.parquet (parts: {split}-00000-of-00002.parquet, …)"
    )


def _from_files(paths: list[Path]) -> Dataset:
    """Rows are validated as they were written, before Arrow gives every row the columns and keys of all others."""
    rows = [row for path in paths for row in _checked_rows(path)]
    used = [*COLUMNS, *(name for name in (*TEMPLATE, *ABOUT) if any(row.get(name) is not None for row in rows))]
    used = [name for name in used if name not in ABOUT or all(isinstance(row.get(name, ""), str) for row in rows)]
    if left_out := sorted({name for row in rows for name in row} - {*used, "system"}):
        print(f"{paths[0].name}: nothing reads {', '.join(left_out)}; left out")
    return Dataset.from_list([{name: encoded_cell(name, row.get(name)) for name in used} for row in rows])


def _checked_rows(path: Path) -> list[dict]:
    rows = [normalise(row) for row in read_rows(path)]
    if not rows:
        raise ValueError(f"{path} holds no rows: write one JSON object a line, with {', '.join(COLUMNS)}")
    problems = [problem for number, row in enumerate(rows) for problem in row_problems(number, row)]
    ValidationReport(path.name, len(rows), problems).raise_if_invalid()
    return [with_system(number, row, path.name) for number, row in enumerate(rows)]


def normalise(row: dict) -> dict:
    """The row with plain strings turned into messages; everything else is left for validation to judge.

    A message list that was stored as text (JSON, or as pandas writes it to CSV) is read again.
    """
    return row | {column: as_messages(column, _reread(row[column])) for column in COLUMNS}


def _reread(value):
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError, RecursionError):
                continue
            if isinstance(found, list) and all(isinstance(message, dict) and "role" in message for message in found):
                return found
    return value


def with_system(number: int, row: dict, name: str) -> dict:
    """The row with the text of its `system` column as the first message of its prompt."""
    system = row.get("system")
    if system is None or system == "":
        return row
    if not isinstance(system, str):
        raise ValueError(f"{name}: row {number}, system: is {type(system).__name__}; write a string")
    if row["prompt"][0]["role"] == "system":
        raise ValueError(f"{name}: row {number}, system: the prompt has a system message too; keep one of them")
    return row | {"prompt": [{"role": "system", "content": system}, *row["prompt"]]}


def encoded_cell(name: str, value):
    """A cell as Arrow keeps it unchanged: tools, arguments and calls as JSON text, since rows differ in their keys."""
    if name in COLUMNS:
        return [{key: encoded(inner) for key, inner in message.items()} for message in value]
    return encoded(value)
