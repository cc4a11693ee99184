"""How long work still takes, from what was measured so far: the one estimate of terminal, notebook and report.

`Pace` times counted work: steps, answers, per cent. The line of a training and every `Bar` show its time left.
`Progress` adds up a whole run: the recorded seconds of each cell at the pace of this machine, and never less than what
the bar or the steps of the running cell still need. A piece that takes longer than was said makes the estimate grow.
"""

import re
import time
from collections import deque

from tqdm.auto import tqdm

from helpers.runs.machine import clock

SLACK = 0.1  # of the time that a piece has taken: what is assumed to be left of it once it is overdue
FEW = 3  # parts from which a bar tells a run how long it takes: the first ones are slow, or rounded per cent
RECENT = 30  # parts that the speed is taken from: more than lie between two measurements of a training
ENOUGH = 5.0  # recorded seconds from which this machine's pace is judged; the first cells take next to nothing
STEPS = re.compile(r"\bstep (\d+)/(\d+)")
PERCENT = re.compile(r"^(.*?):\s*(\d+)%")


class Pace:
    """How long counted work still takes, at the speed of its latest parts. `now` returns seconds."""

    def __init__(self, name: str, first: float, total: float, now=time.monotonic):
        self.name, self.first, self.done, self.total, self.now = name, first, first, total, now
        self.since = self.at = now()
        self.seen = deque([(self.at, first)], maxlen=RECENT + 1)  # when how much was done

    def reach(self, done: float) -> None:
        """`done` of `total` are done now; where that is no more than before, nothing is learned."""
        if done > self.done:
            self.done, self.at = done, self.now()
            self.seen.append((self.at, done))

    def left(self) -> float:
        """Seconds until `total`; 0 where nothing was done yet that could be timed.

        A part that takes longer than its forerunners makes those after it longer, too, and is itself never over.
        """
        (began, first), parts = self.seen[0], len(self.seen) - 1
        if not parts or self.done >= self.total:
            return 0.0
        waited, usual = self.now() - self.at, (self.at - began) / parts
        running = max(usual - waited, SLACK * waited)
        later = max(usual, (self.now() - began) / (parts + 1))
        to_come = (self.total - self.done) * parts / (self.done - first)  # parts, the running one among them
        return running * min(1.0, to_come) + later * max(0.0, to_come - 1)


class Bar(tqdm):
    """tqdm's progress bar, a widget in a notebook, with the time left of a `Pace`. Parts of items count, too."""

    LINE = "{l_bar}{bar}| {n:.0f}/{total_fmt}, {times}"

    def __init__(self, *args, now=time.monotonic, **kwargs):
        self.pace = None
        super().__init__(*args, bar_format=self.LINE, **kwargs)
        if not self.disable:
            self.pace = Pace(self.desc, self.n, self.total, now)

    def update(self, n: float = 1):
        """`n` more are done."""
        if self.pace:
            self.pace.reach(self.n + n)
        return super().update(n)

    @property
    def format_dict(self) -> dict:
        """What the line is made of."""
        found, left = super().format_dict, self.pace.left() if self.pace else 0.0
        times = f"{clock(found['elapsed'])} gone" + (f", {clock(left)} left" if left else "")
        return found | {"times": times}


class Progress:
    """An estimate of the seconds that a run still takes. `now` returns seconds.

    recorded: {notebook: seconds} of an earlier run; cells: {notebook: seconds of each of its cells}, where known.
    """

    def __init__(self, recorded: dict[str, float], cells: dict[str, list[float]] | None = None, now=time.monotonic):
        self.recorded, self.cells, self.now = recorded, cells or {}, now
        self.taken: dict[str, float] = {}
        self.leave()

    def done(self, notebook: str, seconds: float) -> None:
        """A notebook that was run from its beginning to its end, in this run or before it was stopped."""
        self.taken[notebook] = seconds
        if notebook == self.running:
            self.leave()

    def start(self, notebook: str, cells: int = 0, resumed: bool = False) -> None:
        """A notebook begins now. cells: how many it has; resumed: a part of its work was done before."""
        pieces = self.cells.get(notebook, [])
        self.pieces = pieces if cells and len(pieces) == cells else [self.recorded.get(notebook, 0.0)]
        self.running, self.resumed, self.started, self.begun, self.bar = notebook, resumed, self.now(), [], None

    def leave(self) -> None:
        """No notebook is running."""
        self.running, self.resumed, self.started, self.pieces, self.begun, self.bar = None, False, 0.0, [0.0], [], None

    def next_cell(self) -> None:
        """The bar of the cell before says nothing about this one. What came before the first cell belongs to it."""
        self.begun.append(self.now() if self.begun else self.started)
        self.bar = None

    def cell_seconds(self) -> list[float]:
        """Seconds of each cell of the running notebook, up to now."""
        ends = [*self.begun[1:], self.now()]
        return [end - begun for begun, end in zip(self.begun, ends, strict=False)]

    def hear(self, line: str) -> None:
        """A line that the running cell printed: `step 3/150 …` or `answers: 33%` are followed, others are not."""
        if steps := STEPS.search(line):
            name, done, total = "step", int(steps[1]), int(steps[2])
        elif percent := PERCENT.search(line):
            name, done, total = percent[1], int(percent[2]), 100
        else:
            return
        if self.bar is None or self.bar.name != name or done < self.bar.done:
            self.bar = Pace(name, done, total, self.now)
        self.bar.reach(done)

    @property
    def piece(self) -> int:
        """Which of `pieces` is running: a cell, or the notebook."""
        return max(len(self.begun) - 1, 0) if len(self.pieces) > 1 else 0

    @property
    def elapsed(self) -> float:
        """Seconds of the running piece."""
        if not self.running:
            return 0.0
        return self.now() - (self.begun[-1] if self.piece else self.started)

    @property
    def pace(self) -> float:
        """Seconds here for a recorded second: of what is finished, or more where the running notebook takes longer."""
        known = [name for name in self.taken if name in self.recorded]
        taken, expected = (sum(values[name] for name in known) for values in (self.taken, self.recorded))
        if not self.running:
            return ratio(taken, expected) or 1.0
        spent, said = self.now() - self.started, sum(self.pieces[: self.piece])
        if not self.resumed:  # what was done before was not done at any pace
            taken, expected = taken + spent - self.elapsed, expected + said
        here = ratio(spent + self.left_in_cell(), said + self.pieces[self.piece])
        return max(ratio(taken, expected) or 1.0, here)

    def left_in_cell(self) -> float:
        """Seconds that the running cell's bar or steps still take; 0 where they don't say it yet."""
        bar = self.bar  # another thread may take it away
        return bar.left() if bar and len(bar.seen) > FEW else 0.0

    def left(self, waiting: list[str]) -> float | None:
        """Seconds until the notebooks `waiting`, the running one among them, are done; None where none is recorded."""
        if any(name not in self.recorded for name in waiting):
            return None
        pace = self.pace
        seconds = sum(pace * self.recorded[name] for name in waiting if name != self.running)
        if self.running in waiting:
            running, later = self.pieces[self.piece], sum(self.pieces[self.piece + 1 :])
            at_least = self.left_in_cell() or SLACK * self.elapsed
            seconds += max(pace * running - self.elapsed, at_least) + pace * later
        return seconds


def ratio(taken: float, expected: float) -> float:
    """Seconds here for a recorded second; 0, which says nothing, where too few are recorded to judge by."""
    return taken / expected if expected >= ENOUGH else 0.0
