"""What is wrong in a cache, and its repair: moved to <cache>/.removed/, never deleted, never while in use."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from helpers.neuron.compile_cache import settings
from helpers.neuron.compile_cache.layout import (
    LOG,
    REMOVED,
    WAITING,
    Entry,
    Item,
    age_text,
    entries,
    graphs_text,
    read_entry,
    size_text,
    walk,
)
from helpers.neuron.compile_cache.locks import Holders, network_file_system

LOG_LINES = 3
BLOCKING = ("stale lock", "failed compile", "incomplete entry", "unfinished transfer")  # what `repair` moves unasked
ON_REQUEST = ("other compiler", "foreign file")  # in nobody's way, and perhaps somebody's
MOVED = (*BLOCKING, *ON_REQUEST)


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and the fix. `path` is what a repair moves away, or None where it can't help.

    `says` has a line for each line of a failed compile's log, else one.
    """

    kind: str
    where: str
    says: str
    fix: str
    path: Path | None = None

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.where}", *self.says.splitlines(), f"→ {self.fix}"]
        return "\n    ".join(lines)


def problems(root: Path, compiler: str | None = None, older_than: float | None = None) -> Iterator[Problem]:
    """Everything that is wrong, one at a time. `compiler` is the current one; graphs of others are reported by folder.

    older_than: seconds after which what no process holds is left over (`locks.Holders`).
    """
    yield from _around(root)
    holders = Holders(root, older_than)
    others: dict[str, Counter] = {}
    for item in walk(root):
        if item.kind in ("foreign", "leftover"):
            yield from _strange(root, item, holders)
        elif item.kind == "graph" and (entry := read_entry(Path(item.found.path), item.compiler, holders)):
            if compiler and entry.compiler != compiler:
                others.setdefault(entry.compiler, Counter()).update(graphs=1, size=entry.size)
            if entry.state != "compiled" or entry.lock:
                yield from _of_entry(entry, holders)
    for other, total in sorted(others.items()):
        says = f"{graphs_text(total['graphs'])}, {size_text(total['size'])}, of no use to {compiler}"
        fix = 'repair(kinds=["other compiler"]) moves them away'
        yield Problem("other compiler", other, says, fix, root / other)


def _around(root: Path) -> Iterator[Problem]:
    """What is wrong with where the cache is."""
    if disagreement := settings.disagreement():
        yield Problem("location", str(root), disagreement, "CompileCache(path).configure() sets one place for both")
    if kind := network_file_system(root):
        says = f"it is on {kind}, where locks are not reliable"
        yield Problem("location", str(root), says, "use a local folder on each host, and share with push and pull")


def _strange(root: Path, item: Item, holders: Holders) -> Iterator[Problem]:
    path = Path(item.found.path)
    where = str(path.relative_to(root))
    if item.kind == "leftover":
        if _age(path) >= holders.older_than:
            yield Problem("unfinished transfer", where, "a pull that was killed left it", "repair moves it away", path)
        return
    outside = f"a symbolic link to {os.readlink(path)}, not followed" if item.found.is_symlink() else None
    fix = 'repair(kinds=["foreign file"]) moves it away'
    yield Problem("foreign file", where, outside or "not of a Neuron cache", fix, path)


def _of_entry(entry: Entry, holders: Holders) -> Iterator[Problem]:
    where = f"{entry.compiler}/{entry.name}"
    if entry.state == "failed":
        fix = "repair moves it away, so that the graph is tried again (or --retry_failed_compilation)"
        yield Problem("failed compile", where, log_tail(entry.path) or "its log is empty", fix, entry.path)
    elif entry.lock and not entry.holder:
        says = f"no process holds its lock, which is {age_text(_age(entry.path / entry.lock))} old"
        yield Problem("stale lock", where, says, "repair takes the lock away", entry.path / entry.lock)
    elif entry.state == "incomplete" and entry.reason != WAITING and entry.age >= holders.older_than:
        yield Problem("incomplete entry", where, entry.reason, "repair moves it away", entry.path)


def log_tail(folder: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a failed compile's log, of which no more than 4 KiB are read."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"its log can't be read ({error.strerror})"
    return "\n".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


# ── repair ──────────────────────────────────────────────────────────────────────────────────────────────────


def repair(
    root: Path,
    compiler: str | None = None,
    dry_run: bool = True,
    kinds: tuple[str, ...] = BLOCKING,
    older_than: float | None = None,
) -> list[Problem]:
    """Move what is wrong to <cache>/.removed/<time>/ and return it; by default only return what would be moved.

    Each thing is looked at again just before: whatever a process has taken up meanwhile stays. Raises ValueError for
    a kind that does not exist.
    """
    if unknown := set(kinds) - set(MOVED):
        raise ValueError(f"no problem is called {', '.join(sorted(unknown))}: choose from {', '.join(MOVED)}")
    found = [problem for problem in problems(root, compiler, older_than) if problem.kind in kinds]
    if dry_run or not found:
        return found
    removed = _removed_folder(root)
    return [problem for problem in found if _move(problem, root, removed, older_than)]


def _removed_folder(root: Path) -> Path:
    for number in itertools.count():
        folder = root / REMOVED / f"{datetime.now():%Y%m%d-%H%M%S}{f'-{number}' if number else ''}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue


def _move(problem: Problem, root: Path, removed: Path, older_than: float | None) -> bool:
    holders = Holders(root, older_than)
    target = removed / problem.path.relative_to(root)
    if problem.kind == "stale lock":
        folder, lock = problem.path.parent, problem.path.name
        entry = read_entry(folder, folder.parent.name, holders)
        if entry is None or entry.lock != lock or entry.holder:
            return False
        return move(problem.path, target)
    if problem.kind in ("failed compile", "incomplete entry"):
        return set_aside(problem.path, target, holders)
    if problem.kind == "other compiler" and any(entry.holder for entry in _of_compiler(problem.path, holders)):
        return False
    return move(problem.path, target)


def _of_compiler(folder: Path, holders: Holders) -> Iterator[Entry]:
    return (entry for entry in entries(folder.parent, holders) if entry.compiler == folder.name)


def set_aside(path: Path, target: Path, holders: Holders) -> bool:
    """Move an unfinished graph away unless somebody compiles it; returns whether it was moved.

    A compile starts with creating the lock. So this takes the lock first: no compile can start in between.
    """
    entry = read_entry(path, path.parent.name, holders)
    if entry is None or entry.state == "compiled" or entry.holder:
        return False
    if entry.lock is None and not path.is_file() and not _take_lock(path):
        return False
    return move(path, target)


def _take_lock(folder: Path) -> bool:
    graph = next((file.name for file in folder.glob("model.hlo_module.pb*")), "model.hlo_module.pb")
    try:
        os.close(os.open(folder / f"{graph}.lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def move(path: Path, target: Path) -> bool:
    """Rename, with the folders above the target made; False if it has gone meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(path, target)
    except FileNotFoundError:
        return False
    return True
