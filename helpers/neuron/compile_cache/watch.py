"""Count what is compiled and what is reused while a block runs, with a line for each new graph.

    with cache.watch() as seen:
        train_on_trainium("orpo", listen=seen.hear, …)
    graph 4 compiled (38 s); 3 reused

New graphs are seen in the cache's folder, and reused ones in the compiler's log, line by line through `hear`.
"""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

from helpers.neuron.compile_cache.layout import LOCK, MODULE, Entry, entries, read_entry, walk
from helpers.neuron.compile_cache.text import path_text
from helpers.neuron.process import lines_of
from helpers.neuron.run import command_text

REUSED = re.compile(rf"Using a cached neff at \S*?({MODULE.pattern})/model\.neff")
TOOL = "neuron_parallel_compile"
FAILURES = re.compile(r"Total failed compilations: (\d+)")
LOCKED = re.compile(r"\blocked are (\d+)")
# Takes every lock for alive: a watcher wants to know what is done, and looks too often to ask for processes
NOBODY_ASKED = SimpleNamespace(of=lambda *_: "somebody")


class Watch:
    """Counts of a block: `compiled`, `failed` and `reused` graphs. `seconds` are those of each compile, in order of
    their end.
    """

    def __init__(self, root: Path, every: float = 0.5, say: Callable[[str], None] = print):
        self.root, self.every, self.say = root, every, say
        self.seconds: list[float] = []
        self.failed, self.unread = 0, False
        self.settled, self.own, self.heard = set(), set(), set()
        self.locked: dict[str, float] = {}

    @property
    def compiled(self) -> int:
        """New graphs."""
        return len(self.seconds)

    @property
    def reused(self) -> int:
        """Graphs that the compiler's log names and that are none of this block's own."""
        return len(self.heard - self.own)

    def hear(self, line: str) -> None:
        """Read one line of the compiler's log; each process of a run says it of each graph."""
        self.heard.update(REUSED.findall(line))

    def __enter__(self) -> "Watch":
        self._read(self.start)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        self._read(self.look)

    def _follow(self) -> None:
        while not self.ended.wait(self.every):
            self._read(self.look)

    def _read(self, step: Callable[[], None]) -> None:
        """Do what reads the cache. That it can't be read is said once, and ends no training."""
        try:
            step()
        except OSError as error:
            if not self.unread:
                self.say(f"the compile cache can't be read ({error.strerror}): its graphs are not counted")
            self.unread = True

    def start(self) -> None:
        """What is finished now is old, and so is every failed compile."""
        found = ((entry.name, entry.state) for entry in entries(self.root, NOBODY_ASKED))
        self.settled = {each for each in found if each[1] in ("compiled", "failed")}

    def look(self) -> None:
        """Count what has ended since the last look, and say so."""
        ended = list(self._newly_ended())
        self.own |= {entry.name for entry in ended if entry.state == "compiled"}
        for entry in ended:
            self.settled.add((entry.name, entry.state))
            if entry.state == "failed":
                self.failed += 1
                self.say(f"{entry.name} failed to compile: see `problems()`")
            else:
                self.seconds.append(entry.modified - self._began(entry))
                self.say(f"graph {self.compiled} compiled ({self.seconds[-1]:.1f} s); {self.reused} reused")

    def _newly_ended(self) -> Iterator[Entry]:
        """Graphs that were not compiled, or had not failed, at the last look; those that were are not opened."""
        for item in walk(self.root):
            if item.kind != "graph" or (item.found.name, "compiled") in self.settled:
                continue
            self._note_lock(path := Path(item.found.path))
            entry = read_entry(path, item.compiler, NOBODY_ASKED)
            if entry and entry.state in ("compiled", "failed") and (entry.name, entry.state) not in self.settled:
                yield entry

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

    def __str__(self) -> str:
        said = f"{self.compiled} new graphs compiled in {sum(self.seconds):.0f} s, {self.reused} reused"
        return said + (f", {self.failed} FAILED" if self.failed else "")


def compiled_graphs() -> int:
    """How many graphs XLA has given to its compiler in this process; on Trainium, those that it found compiled too."""
    from torch_xla.debug import metrics

    compiled = metrics.metric_data("CompileTime")
    return compiled[0] if compiled else 0


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
