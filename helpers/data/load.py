"""Load preference pairs from a built-in domain, files, a URL, the hub, or a data set in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.compute as pc
from datasets import Dataset
from datasets.table import InMemoryTable
from pyarrow.parquet import read_table

from helpers.data.build import Options, read_pairs
from helpers.data.columns import EVERY_NAME
from helpers.data.locate import KINDS, Splits, find_splits, name_of_split
from helpers.data.rejected import Way, add_rejected, ways_named
from helpers.data.row_checks import checked
from helpers.data.splits import SHARES, split_column
from helpers.files import REPOSITORY

DOMAINS = ("house-style", "aws-api")  # data/<name>.parquet, see data/README.md
BUILT_IN = DOMAINS[0]


def load_preferences(
    source=BUILT_IN,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    *,
    columns: dict[str, str] | None = None,
    min_gap: float | None = None,
    split_by: str | None = None,
    system_in_user: bool = False,
    strict: bool | None = None,
    rejected: str | Sequence[str] | Mapping[str, Way] | None = None,
) -> Dataset:
    """Preference pairs as `prompt`, `chosen` and `rejected`, each a list of {"role", "content"} messages.

    source: "house-style" or "aws-api" (the built-in domains); a JSON, JSON Lines, CSV, Parquet or Arrow file, packed
    by gzip or zstd or not; a folder of them (`<split>.jsonl`, or parts `<split>-00000-of-00002.parquet`), or one that
    `save_to_disk` wrote; a URL (http, s3, what fsspec knows); a hub id; a `datasets` object or a list of rows. What the
    columns mean is recognised (`helpers.data.columns`) and printed, with the columns that nothing reads.

    split: a single file is "train", unless its name holds another. limit: a seeded random sample of so many pairs.
    columns: {our name: column} where recognition fails. min_gap: of a scored list of answers all pairs whose scores
    differ at least so much; without it, the best against the worst. split_by: where the source has no such split, make
    it from the training rows, a tenth each for "validation" and "heldout": by a hash of the "prompt" or of a column,
    whose rows stay together (kept as `group`), or by "time:column", the newest held out. system_in_user: the system
    text stands in front of the first user message, for templates without a system role (Gemma, Mistral). strict: a bad
    row is an error; with False, bad rows are set aside into a file, which is named. By default True, but for the hub.
    rejected: how to make wrong answers where the source has right ones only: "nearest", "numbers", several of them, or
    {name: function} (`helpers.data.rejected`).

    A source larger than 64 MB is read row by row and kept on disk, so that it may be larger than memory.

    Raises ValueError for a bad file, row, column or option (which, and the fix), FileNotFoundError and ConnectionError
    where there is none.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{limit} pairs were asked for: give at least 1, or no number for all of them")
    if isinstance(source, str) and source in DOMAINS:
        _refuse_for_built_in(columns=columns, min_gap=min_gap, rejected=rejected)
        dataset = _built_in(source, split)
    else:
        on_hub = isinstance(source, str) and not Path(source).exists() and "://" not in source
        ways = None if rejected is None else ways_named(rejected)
        strict = not on_hub if strict is None else strict
        options = Options(columns, min_gap, split_by, system_in_user, strict, answers_only=bool(ways))
        dataset = _own(source, split, options)
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return checked(dataset) if rejected is None else add_rejected(dataset, ways)


# ── the built-in domains ──


def _refuse_for_built_in(**options) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is for data of your own: leave it out for {' and '.join(map(repr, DOMAINS))}")


def documentation_drafts() -> Dataset:
    """Summaries as AWS publishes them, of held-out services, that break at least two rules of the house style.

    Columns: `prompt`, `service`, `operation`, `draft` and `summary`, both the summary itself. Nobody wrote an answer.
    """
    return Dataset(InMemoryTable(read_table(REPOSITORY / "data" / "documentation-drafts.parquet")))


def _built_in(domain: str, split: str) -> Dataset:
    """The rows of a split. The splits by service are fixed; a seed only picks rows, so that runs stay comparable."""
    table = read_table(REPOSITORY / "data" / f"{domain}.parquet")
    splits = table["split"].unique().to_pylist()
    if split not in splits:
        raise ValueError(f"split {split!r} is not one of {', '.join(splits)}: choose one of these")
    rows = table.filter(pc.equal(table["split"], split)).drop_columns("split")
    return Dataset(InMemoryTable(rows.combine_chunks()))


# ── data of one's own ──


def _own(source, split: str, options: Options) -> Dataset:
    wanted = EVERY_NAME | set((options.columns or {}).values()) | {split_column(options.split_by) or "prompt"}
    splits = find_splits(source, wanted)
    there = name_of_split(splits, split)
    made = {name for name in SHARES if name_of_split(splits, name) is None} if options.split_by else set()
    if there is None and split not in made:
        raise _no_split(source, split, splits)
    if there not in (None, split):
        print(f"the split {split!r} is called {there!r} there")
    files = splits[there or name_of_split(splits, "train") or next(iter(splits))]()
    return read_pairs(files, options, split if made and split in (*made, "train") else None, made)


def _no_split(source, split: str, splits: Splits) -> Exception:
    if not splits:
        return FileNotFoundError(
            f"no preference data at {source}: give {', '.join(map(repr, DOMAINS))}, {KINDS}, or a folder with "
            f"{split}.jsonl or {split}.parquet (parts: {split}-00000-of-00002.parquet, …)"
        )
    name = Path(source).name if isinstance(source, str | Path) else "the data set"
    if set(splits) == {"train"} and split in SHARES:
        return ValueError(
            f"{name} is one file, whose rows are for training: for the split {split!r} give a folder with "
            f"train.jsonl and {split}.jsonl, or split_by='prompt' to hold a tenth of the rows out"
        )
    return FileNotFoundError(
        f"no split {split!r} in {name}, which has {', '.join(splits)}: add {split}.jsonl, or choose one of these"
    )
