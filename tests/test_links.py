"""As read on GitHub: every link of every page and notebook leads somewhere, and every picture has a text."""

import functools
import itertools
import json
import re
from pathlib import Path

import pytest

from helpers.files import REPOSITORY

FOLDERS = ("cloud", "data", "docs", "notebooks", "tests")
PAGES = sorted([*REPOSITORY.glob("*.md"), *(path for name in FOLDERS for path in (REPOSITORY / name).rglob("*.md"))])
NOTEBOOKS = sorted(
    path for path in (REPOSITORY / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)|<(?:a|img)\b[^>]*?(?:href|src)=\"([^\"]+)\"")
NAMED = re.compile(r"`((?:benchmarks|cloud|data|docs|helpers|notebooks|scripts|tests)/[\w./-]+)`")
IMAGINED = "simpo"  # CONTRIBUTING.md shows how an objective of this name would be added


@functools.cache
def told(path: Path) -> str:
    """The text that a page shows: of a notebook its Markdown cells, and what its outputs show as Markdown or HTML."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    texts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        texts += ["".join(cell["source"])] if cell["cell_type"] == "markdown" else []
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        texts += ["".join(each[kind]) for each in data for kind in ("text/markdown", "text/html") if kind in each]
    return "\n\n".join(texts)


def links(text: str) -> list[tuple[str, str, str]]:
    """(! of a picture, its words, target) of each link that does not leave the repository; code is no link."""
    found = [(mark, words, target or plain) for mark, words, target, plain in LINK.findall(CODE.sub("", text))]
    return [each for each in found if not re.match(r"https?://|mailto:|data:", each[2])]


def anchors(page: str) -> set[str]:
    """What a link to a heading of the page ends with, by GitHub's rule: the second of the same name gets "-1"."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", each) is not None for each in found)
        found.append(f"{name}-{again}" if again else name)
    return set(found)


def fault(path: Path, target: str) -> str:
    """What is wrong with a link of a page; "" if it leads somewhere."""
    name, _, heading = target.partition("#")
    there = (path.parent / name).resolve() if name else path
    if not there.is_relative_to(REPOSITORY) or not there.exists():
        return f"there is no {name}"
    if heading and there.suffix != ".md":
        return "only a page has names for its headings: link to the notebook or file"
    return "" if not heading or heading in anchors(told(there)) else f"{there.name} has no heading {heading}"


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere_and_every_picture_has_a_text(path):
    text = told(path)
    for mark, words, target in links(text):
        assert not (wrong := fault(path, target)), f"{target}: {wrong}"
        assert not mark or len(words) > 20, f"{target}: say what the picture shows"
    for name in NAMED.findall(text):
        assert (REPOSITORY / name).exists() or IMAGINED in name, f"`{name}` is not there"


def test_links_and_headings_are_found_by_githubs_rules(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '# One, *two*\n```\n# no heading\n```\n## Same\n## Same\n[a](b.md#c) `[no](link)` ![p](i.png) <a href="d">'
    )
    assert anchors(page.read_text()) == {"one-two", "same", "same-1"}
    assert links(page.read_text()) == [("", "a", "b.md#c"), ("!", "p", "i.png"), ("", "", "d")]
    assert fault(REPOSITORY / "README.md", "docs/nothing.md") == "there is no docs/nothing.md"
    assert fault(REPOSITORY / "README.md", "docs/results.md#nothing") == "results.md has no heading nothing"
    assert not fault(REPOSITORY / "README.md", "docs/results.md#controls")


def test_from_the_readme_or_the_first_notebook_every_notebook_is_reached():
    for start in (REPOSITORY / "README.md", REPOSITORY / "notebooks" / "00_preflight.ipynb"):
        reached, waiting = set(), [start]
        while waiting:
            here = waiting.pop()
            reached.add(here)
            targets = {(here.parent / target.partition("#")[0]).resolve() for _, _, target in links(told(here))}
            waiting += [each for each in targets if each.suffix == ".ipynb" and each not in reached]
        assert set(NOTEBOOKS) - reached == set(), start.name


def test_each_notebook_of_the_series_leads_to_the_next_and_back_to_what_it_needs():
    series = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for path, following in itertools.pairwise(series):
        assert f"({following.name})" in told(path).rpartition("**Next:**")[2], path.name
    for path in series:
        needs = re.search(r"\*\*Prerequisites\*\* — (.*)", told(path))[1]
        bare = re.search(r"notebooks? \d\d", needs)
        assert not bare, f"{path.name}: link to {bare and bare[0]}"
