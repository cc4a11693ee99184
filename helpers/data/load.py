"""Load preference pairs from the built-in domain, a file or a folder."""

import functools
import hashlib
import json
from pathlib import Path

import botocore
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from helpers.data.schema import COLUMNS
from helpers.data.validate import validate_preferences
from helpers.files import cache_folder, make_atomically

BUILT_IN = "aws-api"


def load_preferences(source=BUILT_IN, split: str = "train", limit: int | None = None, seed: int = 0) -> Dataset:
    """Preference pairs from the built-in domain ("aws-api"), a .jsonl or .parquet file, or a folder of them.

    A folder holds `<split>.jsonl` or `<split>.parquet`, or the hub's parts, `<split>-00000-of-00002.parquet` and so on.
    A plain string in place of a message list is taken as the user's prompt or the assistant's answer. `limit` keeps a
    seeded random sample of the rows.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{limit} pairs were asked for: give at least 1, or no number for all of them")
    dataset = _built_in(split) if source == BUILT_IN else _from_files(_find_files(Path(source), split))
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return dataset


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
        return [path]
    for pattern in (f"{split}.jsonl", f"{split}.parquet", f"{split}-*.jsonl", f"{split}-*.parquet"):
        if found := sorted(file for file in path.glob(pattern) if file.is_file()):
            return found
    raise FileNotFoundError(
        f"no preference data at {path}: give {BUILT_IN!r}, a .jsonl or .parquet file, or a folder with "
        f"{split}.jsonl or {split}.parquet (parts: {split}-00000-of-00002.parquet, …)"
    )


def _from_files(paths: list[Path]) -> Dataset:
    parts = [_from_file(path) for path in paths]
    return parts[0] if len(parts) == 1 else Dataset.from_list([row for part in parts for row in part])


def _from_file(path: Path) -> Dataset:
    rows = _parquet_rows(path) if path.suffix == ".parquet" else list(_json_lines(path))
    if not rows:
        raise ValueError(f"{path} holds no rows: write one JSON object a line, with {', '.join(COLUMNS)}")
    dataset = Dataset.from_list([normalise(row) for row in rows])
    validate_preferences(dataset, name=path.name).raise_if_invalid()
    return dataset


def _parquet_rows(path: Path) -> list[dict]:
    dataset = load_dataset("parquet", data_files=str(path), split="train")
    if missing := [column for column in COLUMNS if column not in dataset.column_names]:
        there = ", ".join(dataset.column_names)
        raise ValueError(f"{path.name}: no {', '.join(missing)} among its columns ({there}); add or rename the column")
    return dataset.to_list()


def _json_lines(path: Path):
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path.name}, line {number}: not valid JSON ({error.msg} at character {error.pos}); "
                    "write one complete JSON object a line"
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"{path.name}, line {number}: a {type(row).__name__}; write a JSON object")
            missing = [column for column in COLUMNS if column not in row]
            if missing:
                raise ValueError(f"{path.name}, line {number}: no {', '.join(missing)}; add the column to every line")
            yield row


def normalise(row: dict) -> dict:
    """The row with plain strings turned into messages; everything else is left for validation to judge."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return row | {
        column: [{"role": role, "content": row[column]}] if isinstance(row[column], str) else row[column]
        for column, role in roles.items()
    }
