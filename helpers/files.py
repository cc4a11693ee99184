"""The cache folder: what is made once and read from then on, whole or absent."""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where the dequantised model and the domain are kept: $WORKSHOP_CACHE, or .cache/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_CACHE", REPOSITORY / ".cache"))


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
            mend = f"disk full while making {target.name}: free 1.2 GB at {target.parent}, or set WORKSHOP_CACHE"
            raise OSError(errno.ENOSPC, mend) from error
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
    """The JSON in `path`, or `default` where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


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
            raise ValueError(f"{path.name}, line {number} is no JSON ({error}): mend it or delete the line") from error
    return records


def append_line(path: Path, record: dict) -> None:
    """Append one record and its newline in a single write, after cutting off a torn last line."""
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
