"""Sizes, ages, paths and sentences as people read them."""

import textwrap
from pathlib import Path


def size_text(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def graphs_text(number: int) -> str:
    """So many graphs, for people."""
    return f"{number} graph" if number == 1 else f"{number} graphs"


def wrapped(said: str) -> str:
    """A sentence in lines that a notebook does not break inside words, the later ones indented."""
    return textwrap.fill(said, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def age_text(seconds: float) -> str:
    """Seconds for people: the largest unit that fits."""
    if seconds == float("inf"):
        return "future"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def path_text(path: Path) -> str:
    """A path for people: from here if it is below, with ~ for the home folder, else whole."""
    for start, said in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(start) and path != start:
            return said + str(path.relative_to(start))
    return str(path)
