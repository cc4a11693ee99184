"""Where preference data is: a file, a folder, a URL, the hub, or a data set in memory → its splits, not yet read."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import datasets

from helpers.aws import told
from helpers.data.read import PACKED_SUFFIXES, SUFFIXES, Rows, read_file, suffix_of
from helpers.data.spool import spooled
from helpers.files import cache_folder, number_in, refused

ALIASES = {
    "train": ("train_prefs",),
    "validation": ("valid", "dev", "eval"),
    "heldout": ("test", "test_prefs"),
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
KINDS = "a JSON, JSON Lines, CSV, Parquet or Arrow file"

Splits = dict[str, Callable[[], list[Rows]]]  # what a split is called there → its rows


def find_splits(source, wanted: set[str]) -> Splits:
    """The splits of a source. `wanted`: the columns to read where others can be left out.

    A file is the split "train", and whatever split its name holds. Raises FileNotFoundError, ConnectionError or
    ValueError, each with what to give instead.
    """
    if isinstance(source, dict):
        return {str(name): functools.partial(_of_dataset, data, str(name), wanted) for name, data in source.items()}
    if isinstance(source, list | datasets.Dataset | datasets.IterableDataset):
        return {"train": functools.partial(_of_dataset, source, "the data set", wanted)}
    if not isinstance(source, str | Path):
        raise ValueError(f"a source of type {type(source).__name__}: give a path, a URL, a hub id or a data set")
    if "://" in str(source):
        return _of_path(_fetched(str(source)), wanted)
    path = Path(source).expanduser()
    if not path.exists() and isinstance(source, str) and HUB_ID.fullmatch(source) and suffix_of(path) not in SUFFIXES:
        return _of_hub(source, wanted)
    return _of_path(path, wanted)


def name_of_split(splits: Splits, split: str) -> str | None:
    """What a split is called there; None if it is not there."""
    return next((name for name in (split, *ALIASES.get(split, ())) if name in splits), None)


def _of_path(path: Path, wanted: set[str]) -> Splits:
    if path.is_file():
        rows = functools.partial(_of_files, [path], wanted)
        return dict.fromkeys(["train", *_splits_named(path)], rows)
    if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json")):
        return find_splits(_saved(path), wanted)
    return {name: functools.partial(_of_files, files, wanted) for name, files in _files_by_split(path).items()}


def _splits_named(path: Path) -> list[str]:
    """What a file's name says of its split: a part of it, such as the second of "faq-test_2.jsonl", not of a word.

    A name that tells of two splits, or of training, says nothing.
    """
    parts = set(re.split(r"[\W\d_]+", _stem(path).lower()))
    found = {
        split: names for split, others in ALIASES.items() if (names := [n for n in (split, *others) if n in parts])
    }
    return next(iter(found.values())) if len(found) == 1 and "train" not in parts else []


def _of_files(files: list[Path], wanted: set[str]) -> list[Rows]:
    return [read_file(file, wanted) for file in files]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    """Of each split one whole file, else its parts in order. Where no file is called as a split is, a part of its name
    may say it (orders_test.csv); what says nothing is for training."""
    there = sorted(file for file in folder.glob("*") if file.is_file() and suffix_of(file) in SUFFIXES)
    found: dict[str, list[Path]] = {}
    for split in dict.fromkeys(_stem(file).partition("-")[0] for file in there):
        whole = [file for file in there if _stem(file) == split]
        parts = [file for file in there if _stem(file).startswith(f"{split}-")]
        first = min(map(_rank, whole or parts))
        found[split] = [file for file in whole or parts if _rank(file) == first]
    if there and not any(name_of_split(found, split) for split in ALIASES):
        for file in there:
            found.setdefault((_splits_named(file) or ["train"])[0], []).append(file)
    return found


def _stem(file: Path) -> str:
    return Path(file.stem).stem if file.suffix.lower() in PACKED_SUFFIXES else file.stem


def _rank(file: Path) -> int:
    return SUFFIXES.index(suffix_of(file))


def _saved(path: Path):
    try:
        return datasets.load_from_disk(path)
    except Exception as error:  # written by a newer version, or not whole
        raise ValueError(
            f"{path.name}: not a data set that datasets can load ({_first_line(error)}); save it again"
        ) from error


def _of_dataset(data, name: str, wanted: set[str]) -> list[Rows]:
    columns = None if isinstance(data, list) else data.column_names
    if columns and not isinstance(data, list):
        data = data.select_columns([column for column in columns if column in wanted])

    def read() -> Iterator[tuple[str, dict]]:
        for number, row in enumerate(data):
            if not isinstance(row, dict):
                raise ValueError(f"{name}: row {number} is {type(row).__name__}; give dicts")
            yield f"row {number}", row

    if isinstance(data, datasets.IterableDataset):
        return [spooled(name, read(), columns, wanted)]
    size = data.data.nbytes if isinstance(data, datasets.Dataset) else 0
    key = None if isinstance(data, list) else lambda: data._fingerprint
    return [Rows(name, read, columns, size, key)]


# ── the hub ──


def _of_hub(source: str, wanted: set[str]) -> Splits:
    names = _from_hub(source, lambda: datasets.get_dataset_split_names(source))
    load = {name: functools.partial(datasets.load_dataset, source, split=name) for name in names}
    return {name: functools.partial(_hub_split, source, name, load[name], wanted) for name in names}


def _hub_split(source: str, name: str, load: Callable, wanted: set[str]) -> list[Rows]:
    return _of_dataset(_from_hub(source, load), f"{source} ({name})", wanted)


def _from_hub(source: str, load: Callable):
    """What `load` gives; one line where the hub does not."""
    try:
        return load()
    except datasets.exceptions.DatasetNotFoundError as error:
        raise FileNotFoundError(
            f"no file or folder {source}, and no data set of that name on the hub that you may read: check the name, "
            "or log in with hf auth login"
        ) from error
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"no file or folder {source}, and the hub can't be reached ({type(error).__name__}): check the path, "
            "or the connection"
        ) from error
    except ValueError as error:  # several configurations, or files of a kind that datasets can't load
        raise ValueError(
            f"{source}: {_first_line(error)}; load it with datasets.load_dataset and give the result"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# ── URLs ──


@functools.cache
def _fetched(url: str) -> Path:
    """A file of http(s), S3 or anything that fsspec knows, or the data files under an S3 prefix, copied once a process.

    S3 is read through boto3, which is installed: fsspec's s3fs pins another botocore. Messages
    leave out what a URL may hold of secrets (user, query).
    """
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    target = cache_folder() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:16] / Path(parts.path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if parts.scheme == "s3":
            return _from_s3(parts.netloc, parts.path.lstrip("/"), target)
        import fsspec

        with fsspec.open(url, "rb") as remote, target.open("wb") as local:
            while block := remote.read(1 << 20):
                local.write(block)
    except Exception as error:  # each file system has exceptions of its own
        why = f" ({type(error).__name__}); check the address and the right to read it"
        if said := told(error):
            why = f": {said}"
        elif number_in(str(error)):
            why = f": {refused(error, target.parent, 'set WORKSHOP_CACHE to a folder elsewhere')}"
        raise ConnectionError(f"{shown}: can't be fetched{why}") from error
    return target


def _from_s3(bucket: str, key: str, target: Path) -> Path:
    import boto3

    client = boto3.client("s3")
    if suffix_of(Path(key)) in SUFFIXES:
        client.download_file(bucket, key, str(target))
        return target
    target.mkdir(exist_ok=True)
    prefix = f"{key.rstrip('/')}/" if key else ""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            name = item["Key"].removeprefix(prefix)
            if "/" not in name and suffix_of(Path(name)) in SUFFIXES:
                client.download_file(bucket, item["Key"], str(target / name))
    return target
