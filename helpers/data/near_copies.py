"""Texts that are almost copies of each other, found by MinHash (rensa)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

BATCH = 1000  # texts that are hashed at once
SHINGLE, SKETCH, BANDS, ALIKE = 4, 128, 16, 0.8  # words; hashes and bands of a MinHash; share that near-copies share


@dataclass
class Sketches:
    """The MinHashes of texts: of each its row, a number that equal texts share, and its sketch."""

    rows: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    sketches: list = field(default_factory=list)


def sketched(texts: Iterable[str]) -> Sketches:
    """The sketches of all texts but those too short to be told apart from others of the same form."""
    from rensa import RMinHash

    made = Sketches()
    long = ((row, text) for row, text in enumerate(texts) if text.count(" ") >= 2 * SHINGLE - 1)
    while some := list(islice(long, BATCH)):
        made.rows += [row for row, _ in some]
        made.keys += [hash(text) for _, text in some]
        made.sketches += RMinHash.from_token_sets([_shingles(text) for _, text in some], SKETCH, 0)
    return made


def near_copies(texts: Sketches, others: Sketches | None = None) -> list[tuple[int, int]]:
    """(row, row of another) of texts that share 80% of their shingles, as MinHash estimates it; not of equal texts.

    The other is the first of `others`, or without them an earlier one of the texts.
    """
    from rensa import RMinHashLSH

    within, others = others is None, others or texts
    index = RMinHashLSH(ALIKE, SKETCH, BANDS)
    index.insert_many(others.sketches)
    found = []
    for number, (row, key, sketch) in enumerate(zip(texts.rows, texts.keys, texts.sketches, strict=True)):
        candidates = sorted(index.query(sketch))
        different = (at for at in candidates if others.keys[at] != key and (at < number or not within))
        near = next((at for at in different if sketch.jaccard(others.sketches[at]) >= ALIKE), None)
        if near is not None:
            found.append((row, others.rows[near]))
    return found


def _shingles(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)]
