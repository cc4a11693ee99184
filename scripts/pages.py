"""The parts of the documentation that are made: what stands between two markers of a page."""

import re
from pathlib import Path

from helpers.files import write_text


def fill(document: Path, texts: dict[str, str]) -> None:
    """Replace what stands between a document's markers `<!-- name -->` and `<!-- /name -->`, for every name."""
    write_text(document, filled(document.read_text(encoding="utf-8"), texts))


def filled(page: str, texts: dict[str, str]) -> str:
    """The page with each text between its markers."""
    for name, text in texts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
    return page
