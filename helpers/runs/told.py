"""Errors that a user meets in the ordinary course of a run. Their message says all, so a notebook shows it alone."""


class Told:
    """Mixed into an error: Jupyter shows its one line and no frames."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class RunFirst(Told, FileNotFoundError):
    """Something is not there yet; the message names the notebook or cell that makes it."""


class Refused(Told, RuntimeError):
    """What was asked for would spoil what is there; the message says what to do."""


class Stopped(Told, KeyboardInterrupt):
    """Training was stopped; the message says what was kept and how to go on."""
