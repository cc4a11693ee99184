"""Where things are kept, and files that are whole or absent: JSON, text, JSON Lines, folders made once."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FIXES = {  # {what the system refused: the fix}; "{}" names another folder
    errno.ENOSPC: "no space is left: free some, or {}",
    errno.EDQUOT: "the quota is used up: free some space, or {}",
    errno.EMFILE: "too many open files: raise the limit with `ulimit -n 1024`",
    errno.EISDIR: "rename or delete that folder, or {}",
    errno.ENAMETOOLONG: "the path is too long: {}",
}
MAKING = ".making"  # in a folder whose contents are being written
TORCH_DISK_FULL = re.compile(r"file write failed|unexpected pos \d+ vs \d+")


class DamagedFile(ValueError):
    """A file is cut off or holds something else; the message names it and the fix, and a notebook shows no more."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def cache_folder() -> Path:
    """Where the dequantised model and the domain are kept: $WORKSHOP_CACHE, or .cache/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_CACHE", REPOSITORY / ".cache"))


def replace_unprintable() -> None:
    """Let a terminal that knows ASCII only show what it can't encode as "?", in place of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's, or a test's, is none
            stream.reconfigure(errors="replace")


def number_in(message: str) -> int | None:
    """Which of `FIXES` a message speaks of: libraries in C++ and Rust, and other processes, tell the system's words."""
    if TORCH_DISK_FULL.search(message):
        return errno.ENOSPC
    return next((number for number in FIXES if os.strerror(number) in message), None)


def refused(error: BaseException, folder: Path, elsewhere: str) -> str | None:
    """What the system refused, where, and the fix, in one line; None for an error that is not the system's.

    elsewhere: how another folder is named, such as "set WORKSHOP_RUNS to a folder elsewhere".
    """
    if isinstance(error, OSError) and error.errno is not None:
        number, why, where = error.errno, error.strerror or str(error), error.filename or folder
    elif number := number_in(str(error)):
        why, where = os.strerror(number), folder
    else:
        return None
    if Path(where).is_relative_to(cache_folder()):
        elsewhere = "set WORKSHOP_CACHE to a folder elsewhere"
    fix = FIXES.get(number, "see that it is there and this user may write to it, or {}")
    return f"{where}: {why}: {fix.format(elsewhere)}"


def sha256_of(path: Path) -> str:
    """The checksum of a file, read a block at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_atomically(target: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a temporary sibling of `target`, then rename it: no half-made folder carries the final name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as temporary:
            made = Path(temporary) / target.name
            made.mkdir()
            make(made)
            put_in_place(made, target)
    except Exception as error:
        if number_in(str(error)) == errno.ENOSPC:
            fix = f"disk full while making {target.name}: free 1.2 GB at {target.parent}, or set WORKSHOP_CACHE"
            raise OSError(errno.ENOSPC, fix) from error
        raise


def put_in_place(made: Path, target: Path) -> None:
    """Rename what was made beside `target`. Where another process was faster, its folder stays: it is as good."""
    try:
        os.replace(made, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextmanager
def replaced_whole(folder: Path, owner: bool = True):
    """A folder to fill, whose contents take the place of what `folder` holds once the `with` block has ended well.

    It lies inside `folder`, which may be a mount and is not renamed itself. An error, of a full disk for one, leaves
    all as it was. Of several processes that fill it one is the owner, and ends last.
    """
    making, is_new = folder / MAKING, not folder.exists()
    if owner:
        making.mkdir(parents=True, exist_ok=True)
    try:
        yield making
        if owner:
            for earlier in (path for path in folder.iterdir() if path != making):
                shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink()
            for made in sorted(making.iterdir()):
                os.replace(made, folder / made.name)
    finally:
        if owner:
            shutil.rmtree(making, ignore_errors=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()


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
    except OSError as error:  # a full disk is told without a name, other errors with the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, default=None):
    """The JSON in `path`, or `default` where there is no such file; a DamagedFile names one that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return default
    except ValueError as error:  # JSON or UTF-8
        raise DamagedFile(f"{path.parent.name}/{path.name} is no JSON ({error}): restore or delete the file") from error


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
