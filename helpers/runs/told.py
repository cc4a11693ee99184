"""Errors that a user meets in the ordinary course of a run. Their message says all, so a notebook shows it alone."""

import os
from contextlib import contextmanager
from pathlib import Path

from helpers.files import refused


class Told:
    """Mixed into an error: Jupyter shows its one line and no frames."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class RunFirst(Told, FileNotFoundError):
    """Something is not there yet; the message names the notebook or cell that makes it."""


class Refused(Told, RuntimeError):
    """What was asked for would spoil what is there; the message says what to do."""


class NotWritten(Told, OSError):
    """The system refused to write, as in a read-only clone; the message names the place and the fix."""

    def __init__(self, said: str, error: OSError):
        super().__init__(error.errno, error.strerror, error.filename)
        self.said = said

    def __str__(self) -> str:
        return self.said


class Stopped(Told, KeyboardInterrupt):
    """Training was stopped; the message says what was kept and how to go on."""


@contextmanager
def writing(folder: Path):
    """For a `with` block that writes to a folder of a run's, or to the cache: what the system refuses is one line."""
    try:
        yield
    except OSError as error:
        said = refused(error, folder, "set WORKSHOP_RUNS to a folder elsewhere")
        if error.filename is None and error.errno and error.strerror != os.strerror(error.errno):
            said = error.strerror  # whoever raised it has said it all
        if said is None or isinstance(error, Told):
            raise
        raise NotWritten(said, error) from error
