"""The parts of the documentation that are made: what stands between two markers of a page."""

import re
from pathlib import Path

from helpers.files import write_text


def fill(document: Path, texts: dict[str, str]) -> None:
    """Replace what stands between a document's markers `<!-- name -->` and `<!-- /name -->`, for every name."""
    page = document.read_text(encoding="utf-8")
    for name, text in texts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
    write_text(document, page)
