"""Push finished graphs to a folder or S3, and pull them from there: nothing twice, and a graph whole or not at all.

    graphs/<compiler>/<graph>@<digest>/<file>     a graph's files
    manifests/<compiler>/<graph>@<digest>.json    their sizes and SHA-256; written last

A graph is there once its manifest is. The digest is the manifest's, so a listing tells what has changed, and what two
hosts compiled differently lies apart. Fingerprints of runs travel in the same way.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from helpers.neuron.compile_cache import layout
from helpers.neuron.compile_cache.store import (
    WORKERS,
    CorruptError,
    FolderStore,
    ReadOnlyError,
    Store,
    open_file,
    open_store,
)
from helpers.neuron.compile_cache.text import size_text

NAME = rf"{layout.MODULE.pattern}|{layout.XLA_GRAPH.pattern}|{layout.FINGERPRINTS}/[0-9a-f]+\.json"  # none leads out
KEY = re.compile(
    rf"manifests/(?P<compiler>{layout.COMPILER.pattern})/(?P<name>{NAME})@(?P<digest>[0-9a-f]{{16}})\.json"
)

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
class Shared:
    """One graph in a store; `written` in seconds since the epoch."""

    compiler: str
    name: str
    digest: str
    written: float = 0.0

    def __str__(self) -> str:
        return f"{self.compiler}/{self.name}@{self.digest}"

    @property
    def key(self) -> str:
        """Its manifest."""
        return f"manifests/{self}.json"

    def key_of(self, file: str) -> str:
        """One of its files."""
        return f"graphs/{self}/{file}"


def shared_graphs(store: Store, compiler: str | None) -> Iterator[Shared | str]:
    """Every graph in the store, one listing request a thousand; the bare key of what is none."""
    for key, written in store.listing(f"manifests/{compiler}/" if compiler else "manifests/"):
        parts = KEY.fullmatch(key)
        yield Shared(**parts.groupdict(), written=written) if parts else key


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


def open_apart(url: str, root: Path) -> Store:
    """The store at `url`; ValueError for a folder that is the cache, holds it or lies in it."""
    store = open_store(url)
    if isinstance(store, FolderStore):
        here, there = Path(os.path.realpath(root)), Path(os.path.realpath(store.root))
        if here == there or here in there.parents or there in here.parents:
            raise ValueError(f"{store}: the cache and what it is shared through must be folders apart")
    return store


# ── push ────────────────────────────────────────────────────────────────────────────────────────────────────


def push(root: Path, url: str, compiler: str | None = None, force: bool = False) -> Transfer:
    """Send what is finished and not there yet. `force` sends it all again, to fix damaged files.

    A place that can't be written to, or nothing to send, is told in `failed`. Raises TransferError or ValueError, in
    one line, for one that can't be reached or named.
    """
    started, store, transfer = time.monotonic(), open_apart(url, root), Transfer("sent", str(url))
    there = {found.key for found in shared_graphs(store, compiler) if isinstance(found, Shared)}
    graphs = list(finished(root, compiler))
    try:
        if isinstance(store, FolderStore):
            store.sweep()
        for outcome in each(lambda graph: send(store, *graph, set() if force else there), graphs, "push"):
            transfer.count(outcome)
        if not graphs:
            whose = f" of {compiler}" if compiler else ""
            transfer.failed.append(f"no finished graph{whose} is in {root}: train once, or fix the cache's path")
    except ReadOnlyError as error:
        transfer.failed.append(f"{error}: nothing more was sent; pull still works")
    transfer.seconds = time.monotonic() - started
    return transfer


def finished(root: Path, compiler: str | None) -> Iterator[tuple[str, str, Path]]:
    """(compiler, name, path) of every compiled graph and every fingerprint."""
    for entry in layout.entries(root):
        if entry.state == "compiled" and compiler in (None, entry.compiler):
            yield entry.compiler, entry.name, entry.path
    for its_compiler, path in layout.fingerprint_files(root):
        if compiler in (None, its_compiler):
            yield its_compiler, f"{layout.FINGERPRINTS}/{path.name}", path


def send(store: Store, compiler: str, name: str, path: Path, there: set[str]) -> Outcome:
    """One graph: its files, then its manifest."""
    try:
        files = files_of(path)
        manifest = manifest_of(files)
        shared = Shared(compiler, name, digest_of(manifest))
        if shared.key in there:
            return None
        facts = json.loads(manifest)["files"]
        for file in facts:
            store.send(files[file], shared.key_of(file), facts[file]["sha256"])
        store.write(shared.key, manifest)
    except FileNotFoundError:
        return "left"  # it was moved away meanwhile
    except CorruptError as error:
        return f"{compiler}/{name}: {error}"
    return sum(fact["size"] for fact in facts.values())


def files_of(path: Path) -> dict[str, Path]:
    """{name: path} of a graph: the file itself, or those in its folder but for locks and a pull's note."""
    if not path.is_dir():
        return {path.name: path}
    names = [item.name for item in os.scandir(path) if item.is_file(follow_symlinks=False)]
    kept = (name for name in names if layout.FILE.fullmatch(name) and not name.endswith(layout.LOCK))
    return {name: path / name for name in kept if name != layout.PULLED}


def manifest_of(files: dict[str, Path]) -> bytes:
    """Sizes and SHA-256 of a graph's files, as JSON that is equal for equal contents."""
    facts = {}
    for name, path in sorted(files.items()):
        with open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            facts[name] = {"sha256": digest, "size": os.fstat(file.fileno()).st_size}
    return (json.dumps({"files": facts}, sort_keys=True, indent=1) + "\n").encode()


def digest_of(manifest: bytes) -> str:
    """Sixteen hex digits."""
    return hashlib.sha256(manifest).hexdigest()[:16]
