"""Push finished graphs to a folder or S3, and pull them from there: nothing twice, and a graph whole or not at all.

How they lie there: `manifest`. The place itself: `helpers.store`.
"""

import errno
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from helpers.files import put_in_place, write_json
from helpers.neuron.compile_cache import layout, manifest
from helpers.neuron.compile_cache.locks import MODULE, Holders
from helpers.neuron.compile_cache.manifest import Facts, Shared, shared_graphs
from helpers.neuron.compile_cache.problems import set_aside
from helpers.neuron.compile_cache.text import size_text
from helpers.store import (
    UNWRITABLE,
    WORKERS,
    CorruptError,
    FolderStore,
    ReadOnlyError,
    Store,
    TransferError,
    open_store,
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def carry(self, work: Callable[..., Outcome], graphs: list, label: str) -> None:
        """`work` on every graph, in parallel, with a progress bar. An error that ends it all stops what waits."""
        from tqdm.auto import tqdm

        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for outcome in tqdm(pool.map(work, graphs), total=len(graphs), desc=label, unit="graph"):
                    self.count(outcome)
            finally:
                pool.shutdown(cancel_futures=True)
                self.seconds = time.monotonic() - self.started

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
    transfer, store = Transfer("sent", str(url)), open_apart(url, root)
    there = {shared.key for shared in shared_graphs(store, compiler)[0]}
    graphs = list(finished(root, compiler))
    if not graphs:
        whose = f" of {compiler}" if compiler else ""
        transfer.failed.append(f"no finished graph{whose} is in {root}: train once, or fix the cache's path")
    try:
        if isinstance(store, FolderStore):
            store.sweep()
        transfer.carry(lambda graph: send(store, *graph, set() if force else there), graphs, "push")
    except ReadOnlyError as error:
        transfer.failed.append(f"{error}: nothing more was sent; pull still works")
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
        files = manifest.files_of(path)
        written = manifest.manifest_of(files)
        shared = Shared(compiler, name, manifest.digest_of(written))
        if shared.key in there:
            return None
        facts = json.loads(written)["files"]
        for file in facts:
            store.send(files[file], shared.key_of(file), facts[file]["sha256"])
        store.write(shared.key, written)
    except FileNotFoundError:
        return "left"  # it was moved away meanwhile
    except CorruptError as error:
        return f"{compiler}/{name}: {error}"
    return sum(fact["size"] for fact in facts.values())


# ── pull ────────────────────────────────────────────────────────────────────────────────────────────────────


def pull(root: Path, url: str, compiler: str | None = None) -> Transfer:
    """Fetch what is there and not finished here. Failed and abandoned graphs make way, running compiles do not.

    A cache that can't be written to, damaged graphs (which are left out), and a place that holds nothing for this
    compiler are told in `failed`. Raises TransferError or ValueError, in one line, for a place that can't be reached,
    OSError for a full disk.
    """
    transfer, store = Transfer("fetched", str(url)), open_apart(url, root)
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise TransferError(f"{store}: there is no such folder: push to it first, or fix its name")
    graphs, foreign = shared_graphs(store, compiler)
    if foreign:
        transfer.warnings.append(f"{len(foreign)} keys are of no graph and were left there, such as {foreign[0]!r}")
    if not graphs:
        transfer.failed.append(nothing_for(compiler, store))
    newest = {(shared.compiler, shared.name): shared for shared in sorted(graphs, key=lambda each: each.written)}
    try:
        transfer.carry(partial(receive, store, root, Holders(root)), list(newest.values()), "pull")
    except OSError as error:
        if error.errno in NO_ROOM:
            fix = "what was fetched whole stays; free some space and pull again"
            raise OSError(error.errno, f"no room for another graph in {root}: {fix}") from error
        if error.errno not in UNWRITABLE:
            raise
        transfer.failed.append(f"{root} can't be written to ({error.strerror}): nothing more was fetched")
    return transfer


def nothing_for(compiler: str | None, store: Store) -> str:
    """What a place holds instead of this compiler's graphs."""
    others = Counter(shared.compiler for shared in shared_graphs(store, None)[0])
    if there := ", ".join(f"{number} of {name}" for name, number in sorted(others.items())):
        return f"no graph of {compiler} is in {store}, which holds {there}: push from a machine with this compiler"
    answered = "" if isinstance(store, FolderStore) else " (credentials and region are right)"
    return f"no graph is in {store}: nothing was pushed there, or its name is mistyped{answered}"


def receive(store: Store, root: Path, holders: Holders, shared: Shared) -> Outcome:
    """One graph. It is left alone while somebody compiles it here."""
    target = root / shared.compiler / shared.name
    try:
        refuse_links(root, target)
        if target.is_file() and target.stat().st_size:
            return None
        here = layout.read_entry(target, shared.compiler, holders)
        if here and here.state == "compiled":
            return None
        if here and here.holder:
            return "left"
        facts = manifest.read_manifest(store, shared)
        if not install(store, root, shared, facts, replaces=bool(here)):
            return "left"
    except CorruptError as error:
        return f"{shared.compiler}/{shared.name}: {error}"
    return sum(fact["size"] for fact in facts.values())


def install(store: Store, root: Path, shared: Shared, facts: Facts, replaces: bool) -> bool:
    """Fetch the files beside the target, check them, then rename: a graph appears whole.

    What is unfinished there makes way once all is fetched: a fetch that fails changes nothing. Returns False where
    somebody has taken it up meanwhile.
    """
    target = root / shared.compiler / shared.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=layout.MAKING) as passing:
        made = Path(passing, target.name)
        folder = made if MODULE.fullmatch(target.name) else made.parent
        folder.mkdir(exist_ok=True)
        for name, fact in facts.items():
            fetch(store, shared.key_of(name), folder / name, fact["sha256"])
        if folder == made:
            write_json(folder / layout.PULLED, {"files": facts})
        removed = root / layout.REMOVED / f"replaced-{os.urandom(4).hex()}" / shared.compiler / shared.name
        if replaces and not set_aside(target, removed, Holders(root)):
            return False
        put_in_place(made, target)
    return True


def fetch(store: Store, key: str, path: Path, sha256: str) -> None:
    """One file, put on the disk; CorruptError if its contents are not those of its checksum."""
    store.fetch(key, path)
    with path.open("rb+") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise CorruptError(f"{path.name} is damaged there or on the way: pull again, or push it with force")
        os.fsync(file.fileno())


def refuse_links(root: Path, target: Path) -> None:
    """CorruptError if a symbolic link in the cache would lead elsewhere."""
    for path in (target, *target.parents):
        if path == root:
            return
        if path.is_symlink():
            raise CorruptError(f"{path.name} is a symbolic link in the cache, which is not followed: remove it")
