"""Files as people have them → rows: JSON, JSON Lines, CSV, Parquet or Arrow, packed by gzip or zstd or not.

Text is UTF-8, or UTF-16 and UTF-32 with a byte-order mark. A row is a dict, read one after another, so that a file may
be larger than memory. What can't be read is a ValueError that names file, line and fix.
"""

import codecs
import csv
import functools
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from helpers.files import sha256_of

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
PARQUET, ARROW = b"PAR1", b"ARROW1"
PACKED = {GZIP: "gzip", ZSTD: "zstd"}
PACKED_SUFFIXES = (".gz", ".zst", ".zstd")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, which is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LONGEST_CELL = 1 << 30  # characters of a CSV cell; the module's own limit is 131,072


@dataclass
class Rows:
    """Rows of one file or data set, which can be read more than once.

    read: gives (place, row), the place as a message names it: "line 3". columns: all that there are, where the format
    names them once; a row may lack those that nobody asked for. bytes: its size, unpacked. key: a digest of what it
    holds, where there is one.
    """

    name: str
    read: Callable[[], Iterator[tuple[str, dict]]]
    columns: list[str] | None = None
    bytes: int = 0
    key: Callable[[], str] | None = None


def read_file(path: Path, wanted: set[str] | None = None) -> Rows:
    """The rows of a file. `wanted`: the only columns that are read where the format can leave out others."""
    kind, key = _kind(path), functools.partial(sha256_of, path)
    if kind in (".parquet", ".arrow"):
        columns = _arrow_columns(path, kind)
        kept = columns if wanted is None else [name for name in columns if name in wanted]
        size = _parquet_bytes(path, kept) if kind == ".parquet" else path.stat().st_size
        return Rows(path.name, functools.partial(_arrow_rows, path, kind, kept), columns, size, key)
    reader = {".csv": _csv_rows, ".tsv": _csv_rows, ".json": _json_rows}.get(kind, _json_lines)
    return Rows(path.name, functools.partial(reader, path), bytes=_text_bytes(path), key=key)


def suffix_of(path: Path) -> str:
    """The suffix that says what a file holds: that before .gz or .zst."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in PACKED_SUFFIXES else path.suffix.lower()


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(ZIP):
        raise ValueError(f"{path.name}: a zip archive or an Excel sheet; unpack it, or save the sheet as CSV")
    if start.startswith(PARQUET):
        return ".parquet"
    return ".arrow" if start.startswith(ARROW) else suffix_of(path)


# ── text ──


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked where its first bytes say that it is packed."""
    with path.open("rb") as raw:
        start = raw.peek(8)
        pack = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
        if pack is None:
            yield raw
            return
        try:
            unpacked = gzip.GzipFile(fileobj=raw) if pack == "gzip" else pyarrow.CompressedInputStream(raw, pack)
            yield io.BufferedReader(unpacked)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path.name}: not a whole {pack} file ({error}); pack it again") from error


def _text_bytes(path: Path) -> int:
    """The size of a file once it is unpacked, found by unpacking it: neither gzip nor zstd has to note it."""
    with _unpacked(path) as file:
        if file.raw.__class__ is io.FileIO:
            return path.stat().st_size
        return sum(map(len, iter(functools.partial(file.read, 1 << 20), b"")))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line with its line break), from 1."""
    with _unpacked(path) as file:
        start = file.peek(4)
        mark = next((mark for mark in BYTE_ORDER_MARKS if start.startswith(mark)), b"")
        encoding = BYTE_ORDER_MARKS.get(mark, "utf-8")
        if encoding == "utf-8":
            file.read(len(mark))
            lines = file
        else:
            lines = io.BytesIO(_decoded(path, 1, file.read(), encoding).encode("utf-8", "surrogatepass"))
        for number, line in enumerate(lines, start=1):
            yield number, _decoded(path, number, line, "utf-8")


def _decoded(path: Path, number: int, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name}, line {number}: byte 0x{data[error.start]:02x} is not {encoding.upper()}; save the file as "
            "UTF-8 (it may be Windows-1252: iconv -f WINDOWS-1252 -t UTF-8)"
        ) from error


def _json_lines(path: Path) -> Iterator[tuple[str, dict]]:
    for number, line in _lines(path):
        if line.strip():
            place = f"line {number}"
            yield place, _object(f"{path.name}, {place}", _parsed(f"{path.name}, {place}", line), line)


def _json_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """One array of objects, or one object a line."""
    first = next((line.lstrip()[0] for _, line in _lines(path) if line.strip()), "")
    if first != "[":
        yield from _json_lines(path)
        return
    text = "".join(line for _, line in _lines(path))
    for number, row in enumerate(_parsed(path.name, text, "write one array of JSON objects")):
        yield f"element {number}", _object(f"{path.name}, element {number}", row, text)


def _parsed(where: str, text: str, fix: str = "write one complete JSON object a line"):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error.msg} at character {error.pos}); {fix}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: lists within lists too deep to read; write one flat JSON object a line") from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise ValueError(f"{where}: a number of too many digits; write it as a string") from error


def _object(where: str, row, text: str) -> dict:
    if not isinstance(row, dict):
        more = " (one array of objects is read from a .json file)" if isinstance(row, list) else ""
        raise ValueError(f"{where}: a {type(row).__name__}; write a JSON object{more}")
    if "\\u" in text:  # the one way in which half a character can come through UTF-8
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"{where}: half a character, {half!a}; complete it or remove it") from error
    return row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a table whose first line names the columns; cells are apart by comma, semicolon or tab."""
    lines = (line for _, line in _lines(path))
    head = next(lines, "")
    delimiter = max(",;\t", key=head.count)
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        columns = next(csv.reader([head], delimiter=delimiter, strict=True), [])
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise ValueError(f"{path.name}, line 1: the column {twice[0]!r} stands there twice; rename one")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        for cells in reader:
            place = f"line {reader.line_num + 1}"
            if not cells:
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"{path.name}, {place}: {len(cells)} cells for {len(columns)} columns; put text that holds "
                    f"{delimiter!r} or a line break in double quotes"
                )
            yield place, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path.name}: not a table ({error}); write it again as CSV, quoted") from error
    finally:
        csv.field_size_limit(limit)


# ── Parquet and Arrow ──


@contextmanager
def _arrow_errors(path: Path, kind: str):
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
        name = {".parquet": "Parquet", ".arrow": "Arrow"}[kind]
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path.name}: not a whole {name} file ({cause}); write it again") from error


def _arrow_columns(path: Path, kind: str) -> list[str]:
    with _arrow_errors(path, kind):
        if kind == ".parquet":
            return pyarrow.parquet.read_schema(path).names
        with _arrow_reader(path) as reader:
            return reader.schema.names


def _parquet_bytes(path: Path, kept: list[str]) -> int:
    """The size of the columns that are read, unpacked."""
    with _arrow_errors(path, ".parquet"):
        about = pyarrow.parquet.read_metadata(path)
        chunks = (about.row_group(i).column(j) for i in range(about.num_row_groups) for j in range(about.num_columns))
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in kept)


def _arrow_reader(path: Path):
    """A file of Arrow's file or streaming format; `datasets` writes the second."""
    with path.open("rb") as file:
        is_file = file.read(len(ARROW)) == ARROW
    return (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(pyarrow.memory_map(str(path)))


def _batches(path: Path, kind: str, columns: list[str]):
    if kind == ".parquet":
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000, columns=columns)
        return
    with _arrow_reader(path) as reader:
        streamed = isinstance(reader, pyarrow.ipc.RecordBatchStreamReader)
        batches = reader if streamed else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            chosen = batch.select(columns)
            chosen.validate(full=True)  # offsets of a broken file would lead anywhere in memory
            yield chosen


def _arrow_rows(path: Path, kind: str, columns: list[str]) -> Iterator[tuple[str, dict]]:
    number = 0
    with _arrow_errors(path, kind):
        for batch in _batches(path, kind, columns):
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1
