"""Count what XLA's CPU device compiles while a block runs, by torch-xla's own counters of this process.

With XLA_PERSISTENT_CACHE_PATH a miss is a new graph, a hit one that is known. XLA's CPU device writes its graphs there
and finds them again, but can't load them: it compiles them once more.
"""

from collections.abc import Callable
from pathlib import Path

from helpers.neuron.compile_cache.watch import Watch, compiled_graphs


class XlaWatch(Watch):
    """Counts of a block, as `Watch` has them; and `again`, the graphs that are known but were compiled again."""

    reused = 0

    def __init__(self, say: Callable[[str], None]):
        super().__init__(Path(), say=say)
        self.again = 0

    def start(self) -> None:
        """What was counted before does not count."""
        self.before = counts()
        self.seen = self.before["compiled"]

    def look(self) -> None:
        """Say a line for each graph that was compiled since the last look."""
        from torch_xla.debug import metrics

        now = counts()
        self.reused = now["hits"] - self.before["hits"]
        fresh = now["compiled"] - self.seen
        samples = metrics.metric_data("CompileTime")[2][-fresh:] if fresh else ()
        seconds = [nanoseconds / 1e9 for _, nanoseconds in samples]
        known = min(fresh, now["again"] - self.before["again"] - self.again)
        self.seen = now["compiled"]
        for took in seconds[known:]:
            self.seconds.append(took)
            self.say(f"graph {self.compiled + self.again} compiled ({took:.1f} s); {self.reused} reused")
        for took in seconds[:known]:
            self.again += 1
            said = "known, but XLA's CPU device can't load it: compiled again"
            self.say(f"graph {self.compiled + self.again} {said} ({took:.1f} s)")


def counts() -> dict[str, int]:
    """Graphs given to the compiler, known graphs, and those of them that could not be loaded, so far."""
    from torch_xla.debug import metrics

    names = {"hits": "PersistentCacheHit", "again": "PersistentCacheDeserializeFailure"}
    found = {name: metrics.counter_value(counter) or 0 for name, counter in names.items()}
    return found | {"compiled": compiled_graphs()}
