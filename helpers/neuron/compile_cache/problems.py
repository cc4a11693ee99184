"""What is wrong in a cache, and its repair: moved to <cache>/.removed/, never deleted, never while in use."""

import errno
import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from helpers.neuron.compile_cache import settings
from helpers.neuron.compile_cache.layout import LOG, REMOVED, WAITING, Entry, Item, entries, read_entry, walk
from helpers.neuron.compile_cache.locks import Holders, network_file_system, seconds_since
from helpers.neuron.compile_cache.text import age_text, graphs_text, size_text
from helpers.neuron.process import CAUSE

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
        yield Problem("failed compile", f"{where}/{LOG}", log_text(entry.path) or "its log is empty", fix, entry.path)
    elif entry.lock and not entry.holder:
        says = f"no process holds its lock, which is {age_text(_age(entry.path / entry.lock))} old"
        yield Problem("stale lock", where, says, "repair takes the lock away", entry.path / entry.lock)
    elif entry.state == "incomplete" and entry.reason != WAITING and entry.age >= holders.older_than:
        yield Problem("incomplete entry", where, entry.reason, "repair moves it away", entry.path)


def log_text(folder: Path) -> str:
    """Lines of a failed compile's log that name the cause, and its last ones; no more than 256 KiB are read."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2**18))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"its log can't be read ({error.strerror})"
    said = [line.strip() for line in text.splitlines() if line.strip()]
    causes = list(dict.fromkeys(line for line in said[:-LOG_LINES] if CAUSE.search(line)))
    return "\n".join([*causes[-LOG_LINES:], *said[-LOG_LINES:]])


def _age(path: Path) -> float:
    try:
        return seconds_since(path.lstat().st_mtime)
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
    a kind that does not exist, OSError for what can't be moved, which then stays as it was.
    """
    if unknown := set(kinds) - set(MOVED):
        raise ValueError(f"no problem is called {', '.join(sorted(unknown))}: choose from {', '.join(MOVED)}")
    found = [problem for problem in problems(root, compiler, older_than) if problem.kind in kinds]
    if dry_run or not found:
        return found
    removed, moved = _removed_folder(root), []
    for problem in found:
        try:
            moved += [problem] if _move(problem, root, removed, older_than) else []
        except OSError as error:
            why = f"{problem.path} can't be moved away ({error.strerror or error}) and stays as it was"
            fix = f"{len(moved)} moved before it; repair as the user who owns the cache, where it can be written to"
            raise OSError(error.errno or errno.EIO, f"{why}: {fix}") from error
    return moved


def _removed_folder(root: Path) -> Path:
    folder = root / REMOVED / f"{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(4).hex()}"
    folder.mkdir(parents=True)
    return folder


def _move(problem: Problem, root: Path, removed: Path, older_than: float | None) -> bool:
    holders, path = Holders(root, older_than), problem.path
    target = removed / path.relative_to(root)
    if problem.kind == "stale lock":
        entry = read_entry(path.parent, path.parent.parent.name, holders)
        if entry is None or entry.lock != path.name or entry.holder:
            return False
    elif problem.kind in ("failed compile", "incomplete entry"):
        return set_aside(path, target, holders)
    elif problem.kind == "other compiler" and is_in_use(root, path.name, holders):
        return False
    return move(path, target)


def is_in_use(root: Path, compiler: str, holders: Holders) -> bool:
    """True while a process compiles a graph of this compiler."""
    return any(entry.holder for entry in entries(root, holders) if entry.compiler == compiler)


def set_aside(path: Path, target: Path, holders: Holders) -> bool:
    """Move an unfinished graph away unless somebody compiles it; returns whether it was moved.

    A compile starts with creating the lock. So this takes the lock first: no compile can start in between.
    """
    entry = read_entry(path, path.parent.name, holders)
    if entry is None or entry.state == "compiled" or entry.holder:
        return False
    lock = None
    if entry.lock is None and not path.is_file() and (lock := _take_lock(path)) is None:
        return False
    try:
        return move(path, target)
    except OSError:
        if lock:
            lock.unlink(missing_ok=True)  # else what stays would read as being compiled
        raise


def _take_lock(folder: Path) -> Path | None:
    graph = next((file.name for file in folder.glob("model.hlo_module.pb*")), "model.hlo_module.pb")
    lock = folder / f"{graph}.lock"
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (FileExistsError, FileNotFoundError):
        return None
    return lock


def move(path: Path, target: Path) -> bool:
    """Rename, with the folders above the target made; False if it has gone meanwhile.

    What can't be renamed (to another file system, or from a layer of an image) is copied, compared, then removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(path, target)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_and_remove(path, target)
    return True


def _copy_and_remove(path: Path, target: Path) -> None:
    """Move by copying. A step that fails is undone: the copy goes, and what was removed comes back from it."""
    copy, remove = partial(shutil.copy2, follow_symlinks=False), os.unlink
    if path.is_dir() and not path.is_symlink():
        copy, remove = partial(shutil.copytree, symlinks=True, dirs_exist_ok=True), shutil.rmtree
    copied = False
    try:
        copy(path, target)
        _refuse_different(path, target)
        copied = True
        remove(path)
    except OSError:
        if copied:
            copy(target, path)
        if target.exists():
            remove(target)
        raise


def _refuse_different(path: Path, copy: Path) -> None:
    """OSError (EIO) if a file of a folder, or a file, is not the same in its copy."""
    for file in (path, *path.rglob("*")):
        twin = copy / file.relative_to(path)
        if file.is_file() and not file.is_symlink() and not filecmp.cmp(file, twin, shallow=False):
            raise OSError(errno.EIO, f"the copy of {file.name} differs")
