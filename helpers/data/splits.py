"""Splits of a source that has none: by a hash of the prompt or of a group, which stays as data grows, or by time."""

import hashlib

TIME = "time:"
SHARES = {"heldout": (0.0, 0.1), "validation": (0.1, 0.2)}  # of the hash's range; the rest is for training


def place_of(value) -> float:
    """A number in [0, 1) that depends on the value alone: the same on every machine, whatever rows come later."""
    digest = hashlib.blake2b(str(value).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def prompt_text(messages: list[dict]) -> str:
    """The words of a prompt without their case and white space, so that a copy lies in the same split."""
    return " ".join(" ".join(message["content"] for message in messages).lower().split())


def split_column(split_by: str | None) -> str | None:
    """The column that a split is made by; None for the prompt."""
    return None if split_by in (None, "prompt") else split_by.removeprefix(TIME)


def split_of_place(place: float, made: set[str]) -> str:
    """Which split a row belongs to, where only the splits in `made` are taken from the training rows."""
    return next((name for name, (low, high) in SHARES.items() if name in made and low <= place < high), "train")


def places_by_time(times: list) -> list[float]:
    """For rows at these times, a place for each: the newest tenth is held out, the tenth before it is validation.

    Rows of one time share a place. Raises ValueError for times that can't be compared.
    """
    try:
        ordered = sorted(times)
    except TypeError as error:
        raise ValueError("its values can't be compared: write all times in one way, such as 2026-01-31") from error
    newer = {time: len(ordered) - 1 - index for index, time in enumerate(ordered)}  # rows that are newer
    return [newer[time] / len(ordered) for time in times]
