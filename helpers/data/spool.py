"""Rows that come only once, such as those of a stream, kept in a file: they are read twice, and may fill no memory."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from helpers.data.read import Rows
from helpers.files import cache_folder, sha256_of


def spooled(name: str, rows: Iterable[tuple[str, dict]], columns: list[str] | None, wanted: set[str]) -> Rows:
    """The rows, which are taken now, one by one. Of columns that nobody asked for only the names are kept.

    The file lies in the cache folder, and goes when the rows are no longer held.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(dir=cache_folder(), prefix="stream-")  # noqa: SIM115 (lives as long as the rows)
    for place, row in rows:
        kept = {column: value if column in wanted else None for column, value in row.items()}
        file.write(pickle.dumps((place, kept)))
    file.flush()

    def read() -> Iterator[tuple[str, dict]]:
        with open(file.name, "rb") as again:
            while again.peek(1):
                yield pickle.load(again)

    path = Path(file.name)
    return Rows(name, read, columns, path.stat().st_size, partial(sha256_of, path))
