"""Pull finished graphs from a folder or S3 into a cache: checked, and whole or not at all."""

import errno
import hashlib
import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from helpers.files import write_json
from helpers.neuron.compile_cache.layout import DONE, FILE, MAKING, MODULE, NEFF, PULLED, REMOVED, read_entry
from helpers.neuron.compile_cache.locks import Holders
from helpers.neuron.compile_cache.problems import set_aside
from helpers.neuron.compile_cache.sharing import Outcome, Shared, Transfer, digest_of, each, open_apart, shared_graphs
from helpers.neuron.compile_cache.store import UNWRITABLE, CorruptError, FolderStore, Store, TransferError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHA256 = re.compile(r"[0-9a-f]{64}")


def pull(root: Path, url: str, compiler: str | None = None) -> Transfer:
    """Fetch what is there and not finished here. Failed and abandoned graphs make way, running compiles do not.

    A cache that can't be written to, damaged graphs (which are left out), and a place that holds nothing for this
    compiler are told in `failed`. Raises TransferError or ValueError, in one line, for a place that can't be reached,
    OSError for a full disk.
    """
    started, store, transfer = time.monotonic(), open_apart(url, root), Transfer("fetched", str(url))
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise TransferError(f"{store}: there is no such folder: push to it first, or fix its name")
    foreign, newest = [], {}
    for found in shared_graphs(store, compiler):
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
    found = shared_graphs(store, None) if compiler else ()
    others = Counter(shared.compiler for shared in found if isinstance(shared, Shared))
    if there := ", ".join(f"{number} of {name}" for name, number in sorted(others.items())):
        return f"no graph of {compiler} is in {store}, which holds {there}: push from a machine with this compiler"
    answered = "" if isinstance(store, FolderStore) else " (credentials and region are right)"
    return f"no graph is in {store}: nothing was pushed there, or its name is mistyped{answered}"


class InUseError(Exception):
    """Somebody compiles the graph here."""


class Receiver:
    """Fetches one graph after another into a cache; safe to use from several threads."""

    def __init__(self, store: Store, root: Path):
        self.store, self.root, self.holders = store, root, Holders(root)

    def receive(self, shared: Shared) -> Outcome:
        """It is left alone while somebody compiles it here."""
        target = self.root / shared.compiler / shared.name
        try:
            refuse_links(self.root, target)
            if target.is_file() and target.stat().st_size:
                return None
            here = read_entry(target, shared.compiler, self.holders) if target.exists() else None
            if here and here.state == "compiled":
                return None
            if here and here.holder:
                return "left"
            facts = read_manifest(self.store, shared)
            self.install(target, shared, facts, replaces=bool(here))
        except InUseError:
            return "left"
        except CorruptError as error:
            return f"{shared.compiler}/{shared.name}: {error}"
        return sum(fact["size"] for fact in facts.values())

    def install(self, target: Path, shared: Shared, facts: dict[str, dict], replaces: bool) -> None:
        """Fetch the files beside the target, check them, then rename: a graph appears whole.

        What is unfinished there makes way once all is fetched: a fetch that fails changes nothing.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=MAKING) as passing:
            made = Path(passing, target.name)
            folder = made if MODULE.fullmatch(target.name) else made.parent
            folder.mkdir(exist_ok=True)
            for name, fact in facts.items():
                self.fetch(shared.key_of(name), folder / name, fact["sha256"])
            if folder == made:
                write_json(folder / PULLED, {"files": facts})
            removed = self.root / REMOVED / f"replaced-{os.urandom(4).hex()}" / shared.compiler / shared.name
            if replaces and not set_aside(target, removed, Holders(self.root)):
                raise InUseError  # somebody has taken it up meanwhile
            try:
                os.replace(made, target)
            except OSError as error:  # another process was faster: its copy is as good as ours
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """One file, put on the disk; CorruptError if its contents are not those of its checksum."""
        self.store.fetch(key, path)
        with path.open("rb+") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise CorruptError(f"{path.name} is damaged there or on the way: pull again, or push it with force")
            os.fsync(file.fileno())


def read_manifest(store: Store, shared: Shared) -> dict[str, dict]:
    """{file name: {"sha256", "size"}} of a graph, or CorruptError if that can't be what was pushed."""
    manifest = store.read(shared.key)
    if digest_of(manifest) != shared.digest:
        raise CorruptError(f"its manifest is damaged: remove {shared.key} and push again")
    try:
        facts = json.loads(manifest)["files"]
        sound = all(FILE.fullmatch(name) and SHA256.fullmatch(fact["sha256"]) for name, fact in facts.items())
        sound = sound and all(isinstance(fact["size"], int) for fact in facts.values())
    except (ValueError, TypeError, LookupError, AttributeError):
        sound = False
    if not sound:
        raise CorruptError(f"its manifest is not one of ours: remove {shared.key}")
    single = Path(shared.name).name
    if not {NEFF, DONE} <= set(facts) if MODULE.fullmatch(shared.name) else set(facts) != {single}:
        raise CorruptError(f"it is not of a finished graph: remove {shared.key}")
    return facts


def refuse_links(root: Path, target: Path) -> None:
    """CorruptError if a symbolic link in the cache would lead elsewhere."""
    for path in (target, *target.parents):
        if path == root:
            return
        if path.is_symlink():
            raise CorruptError(f"{path.name} is a symbolic link in the cache, which is not followed: remove it")
