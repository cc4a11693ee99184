"""How an answer is told: right, or wrong and a hint, in one line. Nobody is shown a traceback for a wrong answer."""

from collections.abc import Callable
from functools import wraps

UNSOLVED = "write your answer in place of the three dots"


def check(right: str) -> Callable:
    """Turn a function that returns a hint, or None for a right answer, into a check that prints one line."""

    def decorate(find: Callable) -> Callable:
        @wraps(find)
        def tell(answer, *given, **named) -> bool:
            try:
                hint = UNSOLVED if _is_blank(answer) else find(answer, *given, **named)
            except Exception as error:  # noqa: BLE001  what a learner writes may fail in any way; it is told
                hint = f"your answer stops with {type(error).__name__}: {error}"
            print(f"✗ {hint}" if hint else f"✓ {right}")
            return not hint

        return tell

    return decorate


def _is_blank(answer) -> bool:
    """Whether the three dots of the exercise are still there: as a value, in a dict, or in a function."""
    if callable(answer):
        return ... in answer.__code__.co_consts
    return answer is ... or (isinstance(answer, dict) and ... in answer.values())
