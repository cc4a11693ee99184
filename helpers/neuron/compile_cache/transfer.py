"""What push and pull share: how a graph is named and described in a store, what a transfer did, work in parallel."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from helpers.neuron.compile_cache.layout import (
    COMPILER,
    FILE,
    FINGERPRINTS,
    LOCK,
    MODULE,
    PULLED,
    XLA,
    XLA_GRAPH,
    size_text,
)
from helpers.neuron.compile_cache.store import (
    WORKERS,
    FolderStore,
    Store,
    open_file,
)

ENTRIES, OBJECTS = "entries", "objects"
FINGERPRINT = re.compile(rf"{FINGERPRINTS}/[0-9a-f]+\.json")
KEY = re.compile(rf"{ENTRIES}/(?P<compiler>[^/]+)/(?P<name>.+)@(?P<digest>[0-9a-f]{{16}})\.json")

Outcome = int | str | None  # of one graph: bytes moved; "left" alone, or what was wrong; None if it was there already


@dataclass
class Transfer:
    """What a push or pull did: graphs sent, unchanged (there already), left (being compiled), and what failed."""

    verb: str
    url: str
    sent: int = 0
    unchanged: int = 0
    left: int = 0
    bytes: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        """Add one graph."""
        if outcome is None:
            self.unchanged += 1
        elif outcome == "left":
            self.left += 1
        elif isinstance(outcome, str):
            self.failed.append(outcome)
        else:
            self.sent, self.bytes = self.sent + 1, self.bytes + outcome

    @property
    def ok(self) -> bool:
        """False if anything failed, could not be written, or there was nothing to move."""
        return not self.failed

    def __str__(self) -> str:
        counts = f"{self.sent} {self.verb}, {self.unchanged} there already"
        counts += f", {self.left} left alone, being in use" if self.left else ""
        first = f"{self.url}: {counts} ({size_text(self.bytes)} in {self.seconds:.1f} s)"
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([first, *warnings, *(f"failed: {what}" for what in self.failed)])


@dataclass(frozen=True)
class Remote:
    """One graph as the store lists it."""

    compiler: str
    name: str
    digest: str
    written: float

    @property
    def key(self) -> str:
        """Its .json."""
        return f"{ENTRIES}/{self.compiler}/{self.name}@{self.digest}.json"


def valid_name(compiler: str, name: str) -> bool:
    """True for names that a cache can have; in particular none that leads out of its folder."""
    if not COMPILER.fullmatch(compiler):
        return False
    graph = XLA_GRAPH if compiler.startswith(XLA) else MODULE
    return bool(graph.fullmatch(name) or FINGERPRINT.fullmatch(name))


def listed(store: Store, compiler: str | None) -> Iterator[Remote | str]:
    """Every graph in the store, one listing request a thousand; the bare key of what is none."""
    for key, written in store.listing(f"{ENTRIES}/{compiler}/" if compiler else f"{ENTRIES}/"):
        parts = KEY.fullmatch(key)
        if parts and valid_name(parts["compiler"], parts["name"]):
            yield Remote(parts["compiler"], parts["name"], parts["digest"], written)
        else:
            yield key


def each(work: Callable, items: list, verb: str) -> Iterator:
    """`work` of every item, in parallel, with a progress bar. The first error that ends it all stops what waits."""
    from tqdm.auto import tqdm

    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(work, item) for item in items]
        try:
            for task in tqdm(as_completed(tasks), total=len(tasks), desc=verb, unit="graph"):
                yield task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def describe(files: dict[str, Path]) -> bytes:
    """What is stored of a graph: its files' sizes and SHA-256, as JSON that is equal for equal contents."""
    described = {}
    for name, path in sorted(files.items()):
        with open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            described[name] = {"sha256": digest, "size": os.fstat(file.fileno()).st_size}
    return (json.dumps({"files": described}, sort_keys=True, indent=1) + "\n").encode()


def digest_of(description: bytes) -> str:
    """Sixteen hex digits that stand in the key, so that a listing tells what has changed."""
    return hashlib.sha256(description).hexdigest()[:16]


def files_of(path: Path) -> dict[str, Path]:
    """{name: path} of what belongs to a graph: the files of its folder but for locks, or the file itself."""
    if not path.is_dir():
        return {path.name: path}
    return {
        item.name: Path(item.path)
        for item in os.scandir(path)
        if item.is_file(follow_symlinks=False)
        and FILE.fullmatch(item.name)
        and not item.name.endswith(LOCK)
        and item.name != PULLED
    }


def object_key(sha256: str) -> str:
    """Where contents are kept."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def of(compiler: str | None) -> str:
    """Whose graphs, in words."""
    return f" of {compiler}" if compiler else ""


def refuse_inside(root: Path, store: Store) -> None:
    """Raise ValueError for a folder that is the cache, holds it or lies in it."""
    if isinstance(store, FolderStore):
        here, there = Path(os.path.realpath(root)), Path(os.path.realpath(store.root))
        if here == there or here in there.parents or there in here.parents:
            raise ValueError(f"{store}: the cache and what it is shared through must be folders apart")
