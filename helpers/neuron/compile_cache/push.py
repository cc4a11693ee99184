"""Push finished graphs to a folder or S3, nothing twice; a graph's description goes last of all."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.neuron.compile_cache.layout import FINGERPRINTS, entries, fingerprint_files
from helpers.neuron.compile_cache.store import (
    CorruptError,
    FolderStore,
    ReadOnlyError,
    Store,
    open_store,
)
from helpers.neuron.compile_cache.transfer import (
    Outcome,
    Remote,
    Transfer,
    describe,
    digest_of,
    each,
    files_of,
    listed,
    object_key,
    of,
    refuse_inside,
)


def finished(root: Path, compiler: str | None) -> Iterator[tuple[str, str, Path]]:
    """(compiler, name, path) of every compiled graph and every fingerprint."""
    for entry in entries(root):
        if entry.state == "compiled" and compiler in (None, entry.compiler):
            yield entry.compiler, entry.name, entry.path
    for its_compiler, path in fingerprint_files(root):
        if compiler in (None, its_compiler):
            yield its_compiler, f"{FINGERPRINTS}/{path.name}", path


def push(root: Path, url: str, compiler: str | None = None, force: bool = False) -> Transfer:
    """Send what is finished and not there yet. `force` sends it all again, to fix damaged objects.

    A place that can't be written to, or nothing to send, is told in `failed`. Raises TransferError or ValueError, in
    one line, for one that can't be reached or named.
    """
    started, store, transfer = time.monotonic(), open_store(url), Transfer("sent", str(url))
    refuse_inside(root, store)
    there = {found.key for found in listed(store, compiler) if isinstance(found, Remote)}
    sender = Sender(store, set() if force else there)
    try:
        if isinstance(store, FolderStore):
            store.sweep()
        graphs = list(finished(root, compiler))
        for outcome in each(sender.send, graphs, "push"):
            transfer.count(outcome)
        if not graphs:
            transfer.failed.append(f"no finished graph{of(compiler)} is in {root}: train once, or fix the cache's path")
    except ReadOnlyError as error:
        transfer.failed.append(f"{error}: nothing more was sent; pull still works")
    transfer.seconds = time.monotonic() - started
    return transfer


class Sender:
    """Sends one graph after another to a store; safe to use from several threads."""

    def __init__(self, store: Store, there: set[str]):
        self.store, self.there = store, there
        self.stored: set[str] = set()
        self.locks: dict[str, threading.Lock] = {}

    def send(self, graph: tuple[str, str, Path]) -> Outcome:
        """Its .json goes last: before that, the graph does not exist there."""
        compiler, name, path = graph
        size = 0
        try:
            files = files_of(path)
            description = describe(files)
            remote = Remote(compiler, name, digest_of(description), 0.0)
            if remote.key in self.there:
                return None
            for file, facts in json.loads(description)["files"].items():
                size += self._object(files[file], facts["sha256"], facts["size"])
            self.store.write(remote.key, description)
        except FileNotFoundError:
            return "left"  # it was moved away meanwhile
        except CorruptError as error:
            return f"{compiler}/{name}: {error}"
        return size

    def _object(self, path: Path, sha256: str, size: int) -> int:
        """Bytes sent: none for contents that were sent for another graph."""
        with self.locks.setdefault(sha256, threading.Lock()):
            if sha256 in self.stored:
                return 0
            self.store.send(path, object_key(sha256), sha256)
            self.stored.add(sha256)
            return size
