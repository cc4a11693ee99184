"""The share of a training's time that watching it may take."""

import time
from contextlib import contextmanager

SHARE = 0.025  # of the seconds of training


class Share:
    """Keeps count of the seconds that watching takes, and says how many more it may take.

    share: of the seconds of training. now: returns seconds. The two ends of a training are always measured. What they
    take is spread over all steps, so that after the last step, its measurement included, everything has taken no more
    than the share. What came out dearer than expected is saved again by waiting. Of a training so short that its ends
    take more, only the ends are measured.
    """

    def __init__(self, share: float = SHARE, now=time.monotonic):
        self.share, self.now, self.begun = share, now, now()
        self.spent, self.at_first = 0.0, 0.0

    @contextmanager
    def watching(self):
        """Count the seconds of a `with` block."""
        began = self.now()
        try:
            yield
        finally:
            self.spent += self.now() - began

    def begin(self) -> None:
        """The steps begin: what was spent so far was the first end's."""
        self.at_first = self.spent

    def room(self, progress: float, to_come: float) -> float:
        """Seconds that watching may take now; below 0 it has to wait.

        progress: from 0 at the first step to 1 at the last. to_come: seconds that the last measurement will take.
        """
        trained = self.now() - self.begun - self.spent
        return self.share * trained + self.at_first * (1 - progress) - to_come * progress - self.spent
