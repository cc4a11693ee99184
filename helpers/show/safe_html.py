"""HTML of a cell's output without anything that loads, runs, or breaks the page around it."""

import html
import re
from html.parser import HTMLParser

from markupsafe import Markup

TAGS = {
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "div",
    "em",
    "hr",
    "i",
    "ins",
    "kbd",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "small",
}
TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "span", "strong", "sub", "sup", "u", "ul"}
TAGS |= {"table", "tbody", "td", "tfoot", "th", "thead", "tr"}
VOID = {"br", "hr"}
LEFT_OUT = {"script", "style", "svg", "math", "iframe", "object", "template", "noscript", "select", "textarea", "title"}
ATTRIBUTES = {"class", "colspan", "rowspan", "scope"}
PROPERTIES = {"color", "font-size", "font-style", "font-weight", "line-height", "margin", "max-width", "overflow-wrap"}
PROPERTIES |= {"table-layout", "text-align", "text-decoration", "vertical-align", "white-space", "width"}
PLAIN_VALUE = re.compile(r"[\w\s.,%#-]+")  # without brackets: no url(…)


def safe_html(page: str) -> Markup:
    """The page's text and layout. Tags that are not known are dropped, and what is in scripts, styles and pictures."""
    kept = _Kept()
    kept.feed(page)
    kept.close()
    return Markup("".join([*kept.parts, *(f"</{tag}>" for tag in reversed(kept.open))]))


def has_text(page: str) -> bool:
    """Whether HTML has anything to read."""
    return bool(re.sub(r"<[^>]*>|\s", "", page))


class _Kept(HTMLParser):
    """`parts` to keep, and the tags that are still `open`; `inside` counts what is open of what is left out."""

    def __init__(self):
        super().__init__()
        self.parts, self.open, self.inside = [], [], 0

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag in LEFT_OUT:
            self.inside += 1
        elif tag in TAGS and not self.inside:
            self.parts.append(f"<{tag}{_kept_attributes(attributes)}>")
            self.open += [tag] if tag not in VOID else []

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        if tag in TAGS:  # one that is left out has nothing inside it
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag in LEFT_OUT:
            self.inside = max(0, self.inside - 1)
        elif tag in self.open and not self.inside:  # one that nobody opened would close a part of the report
            while self.open:
                last = self.open.pop()
                self.parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, text: str) -> None:
        if not self.inside:
            self.parts.append(html.escape(text))


def _kept_attributes(attributes: list) -> str:
    """Those that only lay out, as they stand in a tag."""
    kept = {name: value or "" for name, value in attributes if name in ATTRIBUTES}
    if style := _kept_style(dict(attributes).get("style") or ""):
        kept["style"] = style
    return "".join(f' {name}="{html.escape(value)}"' for name, value in kept.items())


def _kept_style(style: str) -> str:
    pairs = (part.partition(":")[::2] for part in style.split(";"))
    pairs = ((name.strip().lower(), value.strip()) for name, value in pairs)
    return "; ".join(f"{name}: {value}" for name, value in pairs if name in PROPERTIES and PLAIN_VALUE.fullmatch(value))
