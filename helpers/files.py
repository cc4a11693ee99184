"""Where things are kept, and files that are whole or absent: JSON, text, JSON Lines, folders made once."""

import errno
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where the dequantised model and the domain are kept: $WORKSHOP_CACHE, or .cache/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_CACHE", REPOSITORY / ".cache"))


def replace_unprintable() -> None:
    """Let a terminal that knows ASCII only show what it can't encode as "?", in place of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's, or a test's, is none
            stream.reconfigure(errors="replace")


def make_atomically(target: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a temporary sibling of `target`, then rename it: no half-made folder carries the final name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as temporary:
            made = Path(temporary) / target.name
            made.mkdir()
            make(made)
            try:
                os.replace(made, target)
            except OSError as error:  # another process was faster: its copy is as good as ours
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            fix = f"disk full while making {target.name}: free 1.2 GB at {target.parent}, or set WORKSHOP_CACHE"
            raise OSError(errno.ENOSPC, fix) from error
        raise


def write_json(path: Path, data) -> None:
    """Replace `path` by this JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a temporary sibling, put it on the disk, then rename it over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name with no content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, default=None):
    """The JSON in `path`, or `default` where there is no such file; a ValueError names a file that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return default
    except ValueError as error:  # JSON or UTF-8
        raise ValueError(f"{path.parent.name}/{path.name} is no JSON ({error}): restore or delete the file") from error


def read_lines(path: Path) -> list[dict]:
    """The records of a JSON Lines file. A last line torn by a kill is no record yet and is left out.

    Any other line that is no JSON was edited by hand: a ValueError names it.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # the rest is torn or empty
        try:
            records += [json.loads(line)] if line else []
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number} is no JSON ({error}): fix or delete the line") from error
    return records


def append_line(path: Path, record: dict) -> None:
    """Append one record and its newline in a single write, after cutting off a torn last line.

    Of what is there only the last byte is read, and a torn line where there is one: the time does not grow with the
    file.
    """
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and _read_at(file, end - 1, end) != b"\n":
            file.truncate(_end_of_last_line(file, end))
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _end_of_last_line(file, end: int, block: int = 4096) -> int:
    """The position after the last newline before `end`, looked for from the end; 0 if there is none."""
    while end:
        start = max(0, end - block)
        found = _read_at(file, start, end).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _read_at(file, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
