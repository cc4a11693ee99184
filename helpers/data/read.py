"""Files as people have them → rows: JSON Lines or Parquet, compressed or not, in UTF-8 or UTF-16.

A row is a dict that has the three columns. What can't be read is a ValueError that names file, line and fix.
"""

import codecs
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from helpers.data.schema import COLUMNS

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_rows(path: Path) -> list[dict]:
    """All rows of a file."""
    return _parquet_rows(path) if path.suffix == ".parquet" else list(_json_lines(path))


def _parquet_rows(path: Path) -> list[dict]:
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{path.name}: not a whole Parquet file ({str(error).splitlines()[0]}); write it again"
        ) from error
    if missing := [column for column in COLUMNS if column not in table.column_names]:
        there = ", ".join(table.column_names)
        raise ValueError(f"{path.name}: no {', '.join(missing)} among its columns ({there}); add or rename the column")
    return table.to_pylist()


def _json_lines(path: Path) -> Iterator[dict]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: not valid JSON ({error.msg} at character {error.pos}); write one complete JSON object a line"
            ) from error
        except RecursionError as error:
            raise ValueError(
                f"{where}: lists within lists too deep to read; write one flat JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: a {type(row).__name__}; write a JSON object")
        if missing := [column for column in COLUMNS if column not in row]:
            raise ValueError(f"{where}: no {', '.join(missing)}; add the column to every line")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"{where}: half a character, {half!a}; complete it or remove it") from error
        yield row


def _text(path: Path) -> str:
    """The text of a file, unpacked if it is gzip; its byte-order mark tells the encoding, UTF-8 without one."""
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name}: not a whole gzip file ({error}); compress it again") from error
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path.name}, line {line}: byte 0x{data[error.start]:02x} is not {encoding.upper()}; save the file as "
            "UTF-8 (it may be Windows-1252: iconv -f WINDOWS-1252 -t UTF-8)"
        ) from error
