"""How long a run still takes: from the recorded seconds of each notebook, and what this run has measured so far.

The pace is this machine against the record: the seconds that the finished notebooks took, over those recorded for
them. Once the running notebook takes longer than record and pace allow, the pace is raised to what has been seen.
A progress bar or a count of steps in the running cell gives the least that is still to come.
"""

import re
import time

SLACK = 0.1  # of the time that a notebook has taken: what is assumed to be left of it once it is overdue
STEPS = re.compile(r"\bstep (\d+)/(\d+)")
PERCENT = re.compile(r"^(.*?):\s*(\d+)%")


class Pace:
    """How long counted work still takes, at the speed since it was first seen. `now` returns seconds."""

    def __init__(self, name: str, first: int, total: int, now=time.monotonic):
        self.name, self.first, self.done, self.total, self.now = name, first, first, total, now
        self.since = self.at = now()

    def reach(self, done: int) -> None:
        """`done` of `total` are done now."""
        self.done, self.at = done, self.now()

    def left(self) -> float:
        """Seconds until `total`; 0 where nothing was done yet that could be timed."""
        if self.done == self.first:
            return 0.0
        a_part = (self.at - self.since) / (self.done - self.first)
        return max(0.0, a_part * (self.total - self.done) - (self.now() - self.at))


class Progress:
    """An estimate of the seconds left. recorded: {notebook: seconds} of an earlier run; `now` returns seconds."""

    def __init__(self, recorded: dict[str, float], now=time.monotonic):
        self.recorded, self.now = recorded, now
        self.taken: dict[str, float] = {}
        self.running, self.started, self.bar = None, 0.0, None

    def done(self, notebook: str, seconds: float) -> None:
        """A notebook that is finished, in this run or before it was stopped."""
        self.taken[notebook] = seconds
        if notebook == self.running:
            self.running, self.bar = None, None

    def start(self, notebook: str) -> None:
        """A notebook begins now."""
        self.running, self.started, self.bar = notebook, self.now(), None

    def next_cell(self) -> None:
        """The bar of the cell before says nothing about this one."""
        self.bar = None

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
    def elapsed(self) -> float:
        """Seconds of the running notebook."""
        return self.now() - self.started if self.running else 0.0

    @property
    def pace(self) -> float:
        """Seconds here for a recorded second."""
        known = [name for name in self.taken if name in self.recorded]
        expected = sum(self.recorded[name] for name in known)
        pace = sum(self.taken[name] for name in known) / expected if expected else 1.0
        if self.running in self.recorded:
            seen = self.elapsed / max(self.recorded[self.running], 1.0)
            pace = max(pace, seen)
        return pace

    def left_in_cell(self) -> float:
        """Seconds that the running cell's bar or steps still take."""
        return self.bar.left() if self.bar else 0.0

    def left(self, waiting: list[str]) -> float | None:
        """Seconds until the notebooks `waiting`, the running one among them, are done; None where none is recorded."""
        if any(name not in self.recorded for name in waiting):
            return None
        pace = self.pace
        seconds = sum(pace * self.recorded[name] for name in waiting if name != self.running)
        if self.running in waiting:
            seconds += max(pace * self.recorded[self.running] - self.elapsed, SLACK * self.elapsed, self.left_in_cell())
        return seconds
