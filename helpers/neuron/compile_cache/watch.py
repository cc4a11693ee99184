"""Count what is compiled and what is reused while a block runs, with a line for each new graph.

    with cache.watch() as seen:
        train_on_trainium("orpo", listen=seen.hear, …)
    graph 4 compiled (38 s); 3 reused

On Trainium new graphs are seen in the cache's folder, and reused ones in the compiler's log, line by line through
`hear`. In the rehearsal both are XLA's own counters of this process.
"""

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from helpers.neuron.compile_cache.layout import LOCK, entries, read_entry, walk

REUSED = re.compile(r"Using a cached neff at \S*?(MODULE_[A-Za-z0-9_-]+\+[A-Za-z0-9]+)/model\.neff")


class Watch:
    """Counts of a block: `compiled` and `failed` graphs, `reused` ones, `again` for those that XLA's CPU device knew
    but could not load. `seconds` are those of each compile, in order of their end.
    """

    def __init__(self, root: Path, every: float = 0.5, say: Callable[[str], None] = print):
        self.source = XlaCounters() if on_xlas_cpu() else CacheFolder(root)
        self.every, self.say = every, say
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

    def hear(self, line: str) -> None:
        """Read one line of the compiler's log."""
        self.source.hear(line)

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


def on_xlas_cpu() -> bool:
    """True in the process of a rehearsal."""
    return "torch_xla" in sys.modules and os.environ.get("PJRT_DEVICE") == "CPU"


def compiled_graphs() -> int:
    """How many graphs XLA has given to its compiler in this process; on Trainium, those that it found compiled too."""
    from torch_xla.debug import metrics

    compiled = metrics.metric_data("CompileTime")
    return compiled[0] if compiled else 0


class NobodyAsked:
    """Takes every lock for alive: a watcher wants to know what is done, and looks too often to ask for processes."""

    def of(self, *_) -> str:
        """Somebody."""
        return "somebody"


class CacheFolder:
    """What changes in the cache's folder, and what the compiler's log says was reused."""

    def __init__(self, root: Path):
        self.root = root

    def start(self) -> None:
        """What is finished now is old, and so is every failed compile."""
        self.done, self.old_failures, self.own, self.heard = set(), set(), set(), set()
        self.locked: dict[str, float] = {}
        states = {entry.name: entry.state for entry in entries(self.root, NobodyAsked())}
        self.done = {name for name, state in states.items() if state == "compiled"}
        self.old_failures = {name for name, state in states.items() if state == "failed"}

    def hear(self, line: str) -> None:
        """A line of the compiler's log; each process of a run says it of each graph."""
        self.heard.update(REUSED.findall(line))

    def look(self) -> tuple[list[float], list[str], list[float], int]:
        """(seconds of each new graph, names of new failures, none, how many graphs were reused so far)."""
        new, failed = [], []
        for item in walk(self.root):
            if item.kind != "graph" or item.found.name in self.done:
                continue
            path = Path(item.found.path)
            self._note_lock(path)
            entry = read_entry(path, item.compiler, NobodyAsked())
            if entry and entry.state == "compiled":
                self.done.add(entry.name)
                self.own.add(entry.name)
                new.append(entry.modified - self._began(entry))
            elif entry and entry.state == "failed" and entry.name not in self.old_failures:
                self.old_failures.add(entry.name)
                failed.append(entry.name)
        return new, failed, [], len(self.heard - self.own)

    def _note_lock(self, path: Path) -> None:
        """The lock is made when the compile begins, and is gone when it is over."""
        for lock in path.glob(f"*{LOCK}"):
            try:
                self.locked[path.name] = lock.stat().st_mtime
            except FileNotFoundError:
                continue

    def _began(self, entry) -> float:
        """When its lock was seen to be made, else when the graph was put there."""
        made = [path.stat().st_mtime for path in entry.path.glob("*.pb*") if not path.name.endswith(LOCK)]
        return self.locked.get(entry.name, max(made, default=entry.modified))


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
