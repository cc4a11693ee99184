"""Push finished graphs to a folder or S3, and pull them: parallel, checked, whole or not at all, nothing sent twice."""

import errno
import hashlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from helpers.files import make_atomically, write_json
from helpers.neuron.compile_cache.layout import (
    COMPILER,
    DONE,
    FILE,
    FINGERPRINTS,
    LOCK,
    MAKING,
    MODULE,
    NEFF,
    PULLED,
    REMOVED,
    XLA,
    XLA_GRAPH,
    entries,
    fingerprint_files,
    read_entry,
    size_text,
)
from helpers.neuron.compile_cache.locks import Holders
from helpers.neuron.compile_cache.problems import set_aside
from helpers.neuron.compile_cache.store import (
    UNWRITABLE,
    WORKERS,
    CorruptError,
    FolderStore,
    ReadOnlyError,
    Store,
    TransferError,
    open_file,
    open_store,
)

ENTRIES, OBJECTS = "entries", "objects"
FINGERPRINT = re.compile(rf"{FINGERPRINTS}/[0-9a-f]+\.json")
KEY = re.compile(rf"{ENTRIES}/(?P<compiler>[^/]+)/(?P<name>.+)@(?P<digest>[0-9a-f]{{16}})\.json")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHA256 = re.compile(r"[0-9a-f]{64}")

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


# ── push ────────────────────────────────────────────────────────────────────────────────────────────────────


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


def of(compiler: str | None) -> str:
    """Whose graphs, in words."""
    return f" of {compiler}" if compiler else ""


def refuse_inside(root: Path, store: Store) -> None:
    """Raise ValueError for a folder that is the cache, holds it or lies in it."""
    if isinstance(store, FolderStore):
        here, there = Path(os.path.realpath(root)), Path(os.path.realpath(store.root))
        if here == there or here in there.parents or there in here.parents:
            raise ValueError(f"{store}: the cache and what it is shared through must be folders apart")


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


def object_key(sha256: str) -> str:
    """Where contents are kept."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


# ── pull ────────────────────────────────────────────────────────────────────────────────────────────────────


def pull(root: Path, url: str, compiler: str | None = None) -> Transfer:
    """Fetch what is there and not finished here. Failed and abandoned graphs make way, running compiles do not.

    A cache that can't be written to, damaged graphs (which are left out), and a place that holds nothing for this
    compiler are told in `failed`. Raises
    TransferError or ValueError, in one line, for a place that can't be reached, OSError for a full disk.
    """
    started, store, transfer = time.monotonic(), open_store(url), Transfer("fetched", str(url))
    refuse_inside(root, store)
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise TransferError(f"{store}: there is no such folder: push to it first, or fix its name")
    newest: dict[tuple[str, str], Remote] = {}
    foreign = []
    for found in listed(store, compiler):
        if isinstance(found, str):
            foreign.append(found)
        elif found.written >= getattr(newest.get((found.compiler, found.name)), "written", 0.0):
            newest[found.compiler, found.name] = found
    if foreign:
        transfer.warnings.append(f"{len(foreign)} keys are of no graph and were left there, such as {foreign[0]!r}")
    if not newest:
        transfer.failed.append(nothing_for(compiler, store))
    receiver = Receiver(store, root)
    try:
        for outcome in each(receiver.receive, list(newest.values()), "pull"):
            transfer.count(outcome)
    except OSError as error:
        if error.errno in NO_ROOM:
            fix = "what was fetched whole stays; free some space and pull again"
            raise OSError(error.errno, f"no room for another graph in {root}: {fix}") from error
        if error.errno not in UNWRITABLE:
            raise
        transfer.failed.append(f"{root} can't be written to ({error.strerror}): nothing more was fetched")
    transfer.seconds = time.monotonic() - started
    return transfer


def nothing_for(compiler: str | None, store: Store) -> str:
    """What a place holds instead of this compiler's graphs."""
    found = listed(store, None) if compiler else ()
    others = Counter(remote.compiler for remote in found if isinstance(remote, Remote))
    there = ", ".join(f"{number} of {name}" for name, number in sorted(others.items()))
    if not there:
        return f"no graph is in {store}: nothing was pushed there, or its name is mistyped"
    return f"no graph{of(compiler)} is in {store}, which holds {there}: push from a machine with this compiler"


class Receiver:
    """Fetches one graph after another into a cache; safe to use from several threads."""

    def __init__(self, store: Store, root: Path):
        self.store, self.root, self.holders = store, root, Holders(root)

    def receive(self, remote: Remote) -> Outcome:
        """It is left alone while somebody compiles it here."""
        target = self.root / remote.compiler / remote.name
        try:
            refuse_links(self.root, target)
            if target.is_file() and target.stat().st_size:
                return None
            here = read_entry(target, remote.compiler, self.holders) if target.exists() else None
            if here and here.state == "compiled":
                return None
            if here and here.holder:
                return "left"
            files = self.described(remote)
            if here and not self.set_aside(target):
                return "left"
            self.install(target, files)
        except CorruptError as error:
            return f"{remote.compiler}/{remote.name}: {error}"
        return sum(facts["size"] for facts in files.values())

    def described(self, remote: Remote) -> dict[str, dict]:
        """{file name: {"sha256", "size"}} of a graph, or CorruptError if that can't be what was pushed."""
        description = self.store.read(remote.key)
        if digest_of(description) != remote.digest:
            raise CorruptError(f"its description is damaged: remove {remote.key} and push again")
        try:
            files = json.loads(description)["files"]
            sound = all(FILE.fullmatch(name) and SHA256.fullmatch(facts["sha256"]) for name, facts in files.items())
            sound = sound and all(isinstance(facts["size"], int) for facts in files.values())
        except (ValueError, TypeError, KeyError, AttributeError):
            sound = False
        if not sound:
            raise CorruptError(f"its description is not one of ours: remove {remote.key}")
        single = Path(remote.name).name
        if set(files) != {single} if not MODULE.fullmatch(remote.name) else not {NEFF, DONE} <= set(files):
            raise CorruptError(f"it is not of a finished graph: remove {remote.key}")
        return files

    def set_aside(self, target: Path) -> bool:
        """Move what is unfinished here out of the way, unless somebody has taken it up."""
        removed = self.root / REMOVED / f"replaced-{os.urandom(4).hex()}" / target.parent.name / target.name
        return set_aside(target, removed, Holders(self.root))

    def install(self, target: Path, files: dict[str, dict]) -> None:
        """Fetch the files beside the target, check them, then rename: a graph appears whole."""

        def fill(folder: Path) -> None:
            for name, facts in files.items():
                self.fetch(folder / name, facts)
            write_json(folder / PULLED, {"files": files})

        if MODULE.fullmatch(target.name):
            make_atomically(target, fill)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f"{MAKING}{os.urandom(4).hex()}")
        try:
            self.fetch(beside, files[target.name])
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)

    def fetch(self, path: Path, facts: dict) -> None:
        """One file, put on the disk; CorruptError if its contents are not those of its checksum."""
        self.store.fetch(object_key(facts["sha256"]), path)
        with path.open("rb+") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                raise CorruptError(f"{path.name} is damaged there or on the way: pull again, or push it with force")
            os.fsync(file.fileno())


def refuse_links(root: Path, target: Path) -> None:
    """CorruptError if a symbolic link in the cache would lead elsewhere."""
    for path in (target, *target.parents):
        if path == root:
            return
        if path.is_symlink():
            raise CorruptError(f"{path.name} is a symbolic link in the cache, which is not followed: remove it")
