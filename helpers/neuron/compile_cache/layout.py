"""What lies in a compile cache, read without opening more files than needed.

    <cache>/neuronxcc-<version>/          one folder a compiler; graphs of one are useless to another
      MODULE_<graph hash>+<flags hash>/   one folder a graph
        model.hlo_module.pb               the graph (or .pb.gz), put there before it is compiled
        compile_flags.json                the compiler's flags
        model.neff, model.done            the compiled graph, and the empty file that says it is whole
        model.log                         what a failed compile said; while it lies here, the graph is not tried again
        model.hlo_module.pb.lock          while it is compiled; a killed compile leaves it, and later runs wait for ever
        pulled.json                       what a pull put there: sizes and SHA-256, so that a file cut later is noticed
      0_FINGERPRINTS/<digest>.json        what decided the graphs of a finished run (`fingerprint`)
      0_REGISTRY/                         Optimum Neuron's own notes: left alone
    <cache>/xla-cpu-<version>/<number>    the rehearsal's graphs: one file each, written by XLA's CPU device
    <cache>/.removed/                     what `repair` moved away

Source: the AWS Neuron documentation ("Neuron Persistent Cache") and Optimum Neuron 0.4.5; not verified on a Trainium.
"""

import hashlib
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.neuron.compile_cache.locks import MODULE, Holders, seconds_since
from helpers.neuron.compile_cache.text import size_text

DEFAULT_PATH = Path("/var/tmp/neuron-compile-cache")
NEURON, XLA = "neuronxcc-", "xla-cpu-"
COMPILER = re.compile(rf"(?:{NEURON}|{XLA})[A-Za-z0-9.+_-]+")
XLA_GRAPH = re.compile(r"\d+")
FINGERPRINTS, REGISTRY, REMOVED, MAKING = "0_FINGERPRINTS", "0_REGISTRY", ".removed", ".making-"
NEFF, DONE, LOG, FLAGS, LOCK = "model.neff", "model.done", "model.log", "compile_flags.json", ".lock"
PULLED = "pulled.json"
WAITING = "not compiled yet"
STATES = ("compiled", "failed", "compiling", "abandoned", "incomplete")


@dataclass(frozen=True, slots=True)
class Entry:
    """One graph: `size` in bytes, `modified` in seconds since the epoch, `holder` of its lock, `lock`'s file name."""

    path: Path
    compiler: str
    state: str
    size: int
    modified: float
    reason: str = ""
    lock: str | None = None
    holder: str | None = None

    @property
    def name(self) -> str:
        """MODULE_<graph hash>+<flags hash>, or XLA's number."""
        return self.path.name

    @property
    def age(self) -> float:
        """Seconds since anything in it changed; infinite for a date in the future."""
        return seconds_since(self.modified)

    @property
    def flags(self) -> list[str]:
        """The compiler's flags, read when asked for; none where there is no readable list of them."""
        try:
            flags = json.loads((self.path / FLAGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [str(flag) for flag in flags] if isinstance(flags, list) else []


@dataclass(frozen=True, slots=True)
class Item:
    """What lies on the cache's two levels: `kind` is graph, record, leftover or foreign."""

    kind: str
    compiler: str
    found: os.DirEntry


def walk(root: Path) -> Iterator[Item]:
    """Everything on the cache's two levels, unsorted, one at a time; symbolic links are foreign, never followed."""
    for folder in scan(root) if root.is_dir() else ():
        if COMPILER.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False):
            for found in scan(folder.path):
                yield Item(kind_of(found, folder.name), folder.name, found)
        elif folder.name != REMOVED:
            yield Item("foreign", "", folder)


def scan(path: Path | str) -> Iterator[os.DirEntry]:
    """What a folder holds."""
    with os.scandir(path) as found:
        yield from found


def kind_of(found: os.DirEntry, compiler: str) -> str:
    """What lies in a compiler's folder. Its graphs are folders, those of the rehearsal are files."""
    is_folder, is_file = found.is_dir(follow_symlinks=False), found.is_file(follow_symlinks=False)
    pattern, fits = (XLA_GRAPH, is_file) if compiler.startswith(XLA) else (MODULE, is_folder)
    if fits and pattern.fullmatch(found.name):
        return "graph"
    if is_folder and found.name in (FINGERPRINTS, REGISTRY):
        return "record"
    return "leftover" if found.name.startswith(MAKING) and (is_folder or is_file) else "foreign"


def entries(root: Path, holders: Holders | None = None) -> Iterator[Entry]:
    """Every graph, one at a time; what disappears meanwhile is left out."""
    holders = holders or Holders(root)
    for item in walk(root):
        if item.kind == "graph" and (entry := read_entry(Path(item.found.path), item.compiler, holders)):
            yield entry


def read_entry(path: Path, compiler: str, holders: Holders) -> Entry | None:
    """The graph at `path`, or None where there is none (any more)."""
    try:
        if compiler.startswith(XLA):
            found = path.lstat()
            state, reason = ("compiled", "") if found.st_size else ("incomplete", "its file is empty")
            return Entry(path, compiler, state, found.st_size, found.st_mtime, reason)
        files = {item.name: item.stat(follow_symlinks=False) for item in scan(path)}
        modified = max((found.st_mtime for found in files.values()), default=path.stat().st_mtime)
    except FileNotFoundError:
        return None
    except (NotADirectoryError, PermissionError) as error:
        return Entry(path, compiler, "incomplete", 0, time.time(), f"it can't be read ({error.strerror})")
    sizes = {name: found.st_size for name, found in files.items()}
    lock = next((name for name in files if name.endswith(LOCK)), None)
    holder = holders.of(path / lock, files[lock].st_mtime) if lock else None
    state, reason = state_of(sizes, lock, holder)
    if links := [name for name, found in files.items() if stat.S_ISLNK(found.st_mode)]:
        state, reason = "incomplete", f"{links[0]} is a symbolic link"
    elif state == "compiled" and PULLED in files and files[DONE].st_mtime <= files[PULLED].st_mtime:
        cut = cut_since(path, sizes)  # it was not compiled anew since the pull
        state, reason = ("incomplete", cut) if cut else (state, reason)
    return Entry(path, compiler, state, sum(sizes.values()), modified, reason, lock, holder)


def state_of(sizes: dict[str, int], lock: str | None, holder: str | None) -> tuple[str, str]:
    """(state, why) of a graph with files of these sizes. `holder` tells who is taken to compile it, if anybody."""
    if sizes.get(NEFF) and DONE in sizes:
        return "compiled", ""
    if holder:
        return "compiling", holder
    if LOG in sizes and not sizes.get(NEFF):
        return "failed", f"{LOG} and no {NEFF}"
    if lock:
        return "abandoned", "locked, and whoever compiled it is gone"
    if DONE in sizes:
        return "incomplete", f"{DONE} and no whole {NEFF}"
    return "incomplete", f"{NEFF} without {DONE}" if NEFF in sizes else WAITING


def cut_since(path: Path, sizes: dict[str, int]) -> str | None:
    """Which file of a pulled graph is not as long as it was then; None if all are."""
    try:
        files = json.loads((path / PULLED).read_text("utf-8"))["files"]
        pulled = {name: facts["size"] for name, facts in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{PULLED} is damaged"
    for name, size in pulled.items():
        if sizes.get(name) != size:
            return f"{name} has {sizes.get(name, 0)} of the {size} bytes that were pulled"
    return None


def fingerprint_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(compiler, file) of every fingerprint that a finished run left."""
    for item in walk(root):
        if item.kind == "record" and item.found.name == FINGERPRINTS:
            for path in Path(item.found.path).glob("[0-9a-f]*.json"):
                if path.is_file() and not path.is_symlink():
                    yield item.compiler, path


# ── totals ──────────────────────────────────────────────────────────────────────────────────────────────────


class Summary:
    """Totals of a cache, in memory that does not grow with it: {state: graphs}, {state: bytes}, and {compiler: how many
    it compiled}. `graphs` is a checksum of the names of what `compiler` (or any) compiled: the same on two hosts that
    have the same graphs.
    """

    def __init__(self, root: Path, compiler: str | None = None):
        self.compiler, self.checksum = compiler, 0
        self.states, self.bytes, self.compilers = Counter(), Counter(), Counter()
        for entry in entries(root):
            self.states[entry.state] += 1
            self.bytes[entry.state] += entry.size
            if entry.state == "compiled":
                self.compilers[entry.compiler] += 1
                if compiler in (None, entry.compiler):
                    name = f"{entry.compiler}/{entry.name}".encode()
                    self.checksum ^= int.from_bytes(hashlib.sha256(name).digest()[:4])  # the order does not matter

    @property
    def compiled(self) -> int:
        """How many graphs are ready."""
        return self.states["compiled"]

    @property
    def graphs(self) -> str:
        """Eight hex digits."""
        return f"{self.checksum:08x}"

    def __str__(self) -> str:
        lines = [f"{state:<10} {self.states[state]:>6}  {size_text(self.bytes[state]):>9}" for state in STATES]
        lines += [f"  {number} of {compiler}" for compiler, number in sorted(self.compilers.items())]
        whose = f" of {self.compiler}" if self.compiler else ""
        return "\n".join([*lines, f"checksum of the compiled graphs{whose}: {self.graphs}"])
