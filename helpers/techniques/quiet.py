"""What the libraries show while they prepare and train: bars and red messages, several above each line of result."""

import logging
import warnings
from contextlib import contextmanager

from tqdm import std

LIBRARIES = ("accelerate", "datasets", "peft", "transformers", "trl")


@contextmanager
def quiet_libraries():
    """No progress bars, and of the libraries' messages errors only, in a `with` block; afterwards all is as it was."""
    loggers = {logger: logger.level for logger in map(logging.getLogger, LIBRARIES)}
    shown = std.tqdm.__init__  # of every kind of bar, a notebook's too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            std.tqdm.__init__ = lambda bar, *args, **options: shown(bar, *args, **options | {"disable": True})
            yield
        finally:
            std.tqdm.__init__ = shown
            for logger, level in loggers.items():
                logger.setLevel(level)
