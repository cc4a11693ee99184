"""One line of the pre-flight."""

from dataclasses import dataclass


@dataclass
class Check:
    """One line of the pre-flight: its name, whether it passed, what was found, and how to fix it."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{'OK  ' if self.ok else 'FAIL'}  {self.name}: {self.found}" + ("" if self.ok else f" → {self.fix}")
