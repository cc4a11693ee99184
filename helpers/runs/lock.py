"""Locks on a run folder: who holds one is kept in its file, and the kernel frees it when the holder ends, however.

A process number means nothing in another container or on another host that shares the folder. A file lock does: it is
seen by every process that has the same file, and needs no clean-up after a kill.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Held(RuntimeError):
    """Another process holds the lock; the message names it."""


class Lock:
    """An exclusive lock on a file, held by this process from `take` to `release` or to its end.

    Taking it again in the same process changes nothing, so a notebook cell can be run twice.
    """

    _mine: ClassVar[dict[str, int]] = {}  # real path → descriptor, for this process
    _threads = threading.RLock()  # the kernel tells processes apart, not threads

    def __init__(self, path: Path):
        self.path = path

    def take(self, wait: float = 0.0) -> None:
        """Take the lock, waiting up to `wait` seconds; raises Held if another process keeps it."""
        key = self._key()
        if key in self._mine:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(descriptor, time.monotonic() + wait)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_this_process()).encode())
        except BaseException:
            os.close(descriptor)
            raise
        self._mine[key] = descriptor

    def _lock(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Held(f"{self.path.stem} is held by {self.owner()}") from None
                time.sleep(0.01)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                fix = f"the file system of {self.path.parent} has no file locks: set WORKSHOP_RUNS to a local folder"
                raise OSError(error.errno, fix) from error

    def release(self) -> None:
        """Let go; nothing happens where this process does not hold it."""
        descriptor = self._mine.pop(self._key(), None)
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def held(self, wait: float = 60.0):
        """Hold the lock for a `with` block."""
        with self._threads:
            outer = self._key() in self._mine
            self.take(wait)
            try:
                yield
            finally:
                if not outer:
                    self.release()

    def holder(self) -> str | None:
        """Who holds the lock, this process included, in words; None if nobody does."""
        if self._key() in self._mine:
            return self.owner()
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return self.owner()
        finally:
            os.close(descriptor)

    def owner(self) -> str:
        """What the holder wrote about itself when it took the lock."""
        try:
            written = json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, FileNotFoundError):  # it is just being written
            return "another process"
        return f"process {written['pid']} on {written['host']}, since {written['since']}"

    def _key(self) -> str:
        return os.path.realpath(self.path)


def _forget() -> None:
    """A forked child holds no lock of its parent's, and must not keep one alive."""
    for descriptor in Lock._mine.values():
        os.close(descriptor)
    Lock._mine.clear()


os.register_at_fork(after_in_child=_forget)


def _this_process() -> dict:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
