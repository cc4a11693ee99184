"""Count what is compiled and what is reused while a block runs, with a line for each new graph.

    with cache.watch() as seen:
        train_on_trainium("orpo", listen=seen.hear, …)
    graph 4 compiled (38 s); 3 reused

On Trainium new graphs are seen in the cache's folder, and reused ones in the compiler's log, line by line through
`hear`. In the rehearsal both are XLA's own counters of this process.
"""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from helpers.neuron.compile_cache.layout import LOCK, Entry, entries, read_entry, walk
from helpers.neuron.compile_cache.text import path_text
from helpers.neuron.process import lines_of
from helpers.neuron.run import command_text

REUSED = re.compile(r"Using a cached neff at \S*?(MODULE_[A-Za-z0-9_-]+\+[A-Za-z0-9]+)/model\.neff")
TOOL = "neuron_parallel_compile"
FAILURES = re.compile(r"Total failed compilations: (\d+)")
LOCKED = re.compile(r"\blocked are (\d+)")
# Takes every lock for alive: a watcher wants to know what is done, and looks too often to ask for processes
NOBODY_ASKED = SimpleNamespace(of=lambda *_: "somebody")


class Watch:
    """Counts of a block: `compiled` and `failed` graphs, `reused` ones, `again` for those that XLA's CPU device knew
    but could not load. `seconds` are those of each compile, in order of their end.
    """

    def __init__(self, root: Path, every: float = 0.5, say: Callable[[str], None] = print):
        self.source = XlaCounters() if on_xlas_cpu() else CacheFolder(root)
        self.every, self.say, self.hear = every, say, self.source.hear
        self.seconds: list[float] = []
        self.failed = self.again = self.reused = 0
        self.unread = False

    @property
    def compiled(self) -> int:
        """New graphs."""
        return len(self.seconds)

    def __enter__(self) -> "Watch":
        try:
            self.source.start()
        except OSError as error:
            self._unread(error)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        self._look()

    def _follow(self) -> None:
        while not self.ended.wait(self.every):
            self._look()

    def _look(self) -> None:
        try:
            new, failed, again, self.reused = self.source.look()
        except OSError as error:
            self._unread(error)
            return
        for seconds in new:
            self.seconds.append(seconds)
            self.say(f"graph {self.compiled + self.again} compiled ({seconds:.1f} s); {self.reused} reused")
        for seconds in again:
            self.again += 1
            said = "known, but XLA's CPU device can't load it: compiled again"
            self.say(f"graph {self.compiled + self.again} {said} ({seconds:.1f} s)")
        for name in failed:
            self.failed += 1
            self.say(f"{name} failed to compile: see `problems()`")

    def _unread(self, error: OSError) -> None:
        """Say once that the cache can't be read, which ends no training."""
        if not self.unread:
            self.say(f"the compile cache can't be read ({error.strerror}): its graphs are not counted")
        self.unread = True

    def __str__(self) -> str:
        said = f"{self.compiled} new graphs compiled in {sum(self.seconds):.0f} s, {self.reused} reused"
        said += f", {self.again} known but compiled again (XLA's CPU device can't load them)" if self.again else ""
        return said + (f", {self.failed} FAILED" if self.failed else "")


class CacheFolder:
    """What changes in the cache's folder, and what the compiler's log says was reused."""

    def __init__(self, root: Path):
        self.root = root
        self.settled, self.own, self.heard = set(), set(), set()
        self.locked: dict[str, float] = {}

    def start(self) -> None:
        """What is finished now is old, and so is every failed compile."""
        found = ((entry.name, entry.state) for entry in entries(self.root, NOBODY_ASKED))
        self.settled = {each for each in found if each[1] in ("compiled", "failed")}

    def hear(self, line: str) -> None:
        """Read one line of the compiler's log; each process of a run says it of each graph."""
        self.heard.update(REUSED.findall(line))

    def look(self) -> tuple[list[float], list[str], list[float], int]:
        """(seconds of each new graph, names of new failures, none, how many graphs were reused so far)."""
        new, failed = [], []
        for item in walk(self.root):
            if item.kind != "graph" or (item.found.name, "compiled") in self.settled:
                continue
            self._note_lock(path := Path(item.found.path))
            entry = read_entry(path, item.compiler, NOBODY_ASKED)
            if not entry or entry.state not in ("compiled", "failed") or (entry.name, entry.state) in self.settled:
                continue
            self.settled.add((entry.name, entry.state))
            if entry.state == "failed":
                failed.append(entry.name)
            else:
                self.own.add(entry.name)
                new.append(entry.modified - self._began(entry))
        return new, failed, [], len(self.heard - self.own)

    def _note_lock(self, path: Path) -> None:
        """The lock is made when the compile begins, and is gone when it is over."""
        for lock in path.glob(f"*{LOCK}"):
            try:
                self.locked[path.name] = lock.stat().st_mtime
            except FileNotFoundError:
                continue

    def _began(self, entry: Entry) -> float:
        """When its lock was seen to be made, else when the graph was put there."""
        made = [path.stat().st_mtime for path in entry.path.glob("*.pb*") if not path.name.endswith(LOCK)]
        return self.locked.get(entry.name, max(made, default=entry.modified))


def on_xlas_cpu() -> bool:
    """True in the process of a rehearsal."""
    return "torch_xla" in sys.modules and os.environ.get("PJRT_DEVICE") == "CPU"


def compiled_graphs() -> int:
    """How many graphs XLA has given to its compiler in this process; on Trainium, those that it found compiled too."""
    from torch_xla.debug import metrics

    compiled = metrics.metric_data("CompileTime")
    return compiled[0] if compiled else 0


class XlaCounters:
    """torch-xla's counters of this process. With XLA_PERSISTENT_CACHE_PATH a miss is a new graph, a hit a reused one.

    XLA's CPU device writes its graphs there and finds them again, but can't load them: it compiles them once more.
    """

    def start(self) -> None:
        """What was counted before does not count."""
        self.before = self._counts()
        self.seen, self.known = self.before["compiled"], 0

    def hear(self, line: str) -> None:
        """Nothing: the counters tell it all."""

    def _counts(self) -> dict[str, int]:
        from torch_xla.debug import metrics

        names = {"hits": "PersistentCacheHit", "again": "PersistentCacheDeserializeFailure"}
        counts = {name: metrics.counter_value(counter) or 0 for name, counter in names.items()}
        return counts | {"compiled": compiled_graphs()}

    def look(self) -> tuple[list[float], list[str], list[float], int]:
        """(seconds of each new graph, none, seconds of each that was known, how many were reused so far)."""
        from torch_xla.debug import metrics

        now = self._counts()
        fresh = now["compiled"] - self.seen
        samples = metrics.metric_data("CompileTime")[2][-fresh:] if fresh else ()
        seconds = [nanoseconds / 1e9 for _, nanoseconds in samples]
        again = min(fresh, now["again"] - self.before["again"] - self.known)
        self.known, self.seen = self.known + again, now["compiled"]
        return seconds[again:], [], seconds[:again], now["hits"] - self.before["hits"]


# ── be warm before class: AWS's neuron_parallel_compile around a command ─────────────────────────────────────


def precompile(cache, command: list[str]) -> Watch | None:
    """Run TOOL on `command` (a program and its arguments) with its output shown; returns the Watch of it.

    The tool traces a few steps with NEURON_EXTRACT_GRAPHS_ONLY=1, which scripts/train.py knows, then compiles all
    graphs in parallel. Without the tool this prints what it would run, and returns None. Raises RuntimeError if the
    tool fails, if a graph fails or stays locked, or if no graph came out.
    """
    tool = shutil.which(TOOL)
    if tool is None:
        print(f"{TOOL} is not installed here: it comes with torch-neuronx (requirements-neuron.txt).")
        told = ["python" if part == sys.executable else part for part in command]
        indented = command_text([TOOL, *told]).replace("\n", "\n    ")
        print(f"On a Trainium this would run\n\n    {indented}\n")
        print(f"and leave every graph of that command compiled in {path_text(cache.path)}.")
        return None
    cache.configure()
    failures, locked = 0, 0
    before = {entry.path for entry in cache.entries() if entry.lock}
    with cache.watch() as seen:
        for line in lines_of([tool, *command], os.environ):
            print(line, flush=True)
            seen.hear(line)
            if found := FAILURES.search(line):
                failures += int(found[1])
            if found := LOCKED.search(line):
                locked = int(found[1])
    print(seen)
    if failures or seen.failed:
        raise RuntimeError(f"{max(failures, seen.failed)} graphs failed to compile: CompileCache().problems() says why")
    left = [entry for entry in cache.entries() if entry.lock and entry.path not in before]
    if locked or left:
        fix = "another process compiles them, or one that was killed: repair(), then precompile again"
        raise RuntimeError(f"{max(locked, len(left))} graphs stay locked and are not compiled: {fix}")
    if not (seen.compiled or seen.reused or cache.summary().compiled):
        raise RuntimeError(f"{TOOL} ended well but left no graph in {cache.path}: does the command train at all?")
    return seen
