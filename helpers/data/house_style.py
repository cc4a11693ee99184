"""A house style for one-line API summaries, as a checker: five rules of form, and one that facts are kept.

The rules are those of common style guides for reference documentation (third person, no filler, no address of the
reader). Each is a few lines of text matching, so that anybody can read why an answer was refused. The checker sees
an answer and the draft it was made from; it knows no model.
"""

import re
from dataclasses import dataclass

from helpers.data.words import NO_VERBS, content_words, sentences

SYSTEM_PROMPT = "You edit the reference documentation of AWS."
REQUEST = "Edit this API summary into house style:\n{draft}"
READER = re.compile(r"\b(you|your|yours|yourself)\b", re.IGNORECASE)
FILLER = re.compile(
    r"\b(specified|given|provided|particular|certain|simply|please|currently|existing|in order to)\b", re.IGNORECASE
)
BRAND = re.compile(r"\b(AWS|Amazon)\b")
ASIDE = re.compile(r"\s*\([^()]*\)")
NO_FACTS = content_words("particular certain simply please own")  # words of habits that say nothing of the operation
FACTS_KEPT = 0.8  # of the draft's content words
FACTS_ADDED = 0.2  # of the answer's content words


def opens_with_verb(text: str) -> bool:
    """True if the first word is a verb in the third person: 'Deletes an index.'"""
    first = re.match(r"[A-Z][a-z]+s\b", text)
    return bool(first) and first.group().lower() not in NO_VERBS


def is_one_sentence(text: str) -> bool:
    """True for one sentence that ends with a full stop and holds no aside in parentheses."""
    return text.endswith(".") and len(sentences(text)) == 1 and "(" not in text and "\n" not in text


RULES = {  # name -> True if the text keeps the rule
    "verb": opens_with_verb,
    "reader": lambda text: not READER.search(text),
    "filler": lambda text: not FILLER.search(text),
    "brand": lambda text: not BRAND.search(text),
    "sentence": is_one_sentence,
}


def rules_broken(text: str) -> list[str]:
    """The names of the rules of form that `text` breaks."""
    return [name for name, keeps in RULES.items() if not keeps(text)]


def facts(text: str) -> frozenset[str]:
    """Stems of the words that say what the operation does: of the first sentence, without asides."""
    told = sentences(ASIDE.sub("", text))
    return content_words(told[0]) - NO_FACTS if told else frozenset()


@dataclass(frozen=True)
class Verdict:
    """What the checker says of one answer."""

    broken: tuple[str, ...]
    facts_kept: float  # share of the source's facts that the answer says
    facts_added: float  # share of the answer's facts that the source does not say

    @property
    def facts_hold(self) -> bool:
        return self.facts_kept >= FACTS_KEPT and self.facts_added <= FACTS_ADDED

    @property
    def accepted(self) -> bool:
        return not self.broken and self.facts_hold


def check_answer(answer: str, source: str) -> Verdict:
    """Judge an answer; `source` is a text with the facts that it must say, and no others."""
    said, wanted = facts(answer), facts(source)
    if not wanted:
        raise ValueError(f"the source {source!r} holds no facts: give the summary that the answer was made from")
    kept = len(said & wanted) / len(wanted)
    added = len(said - wanted) / len(said) if said else 0.0
    return Verdict(tuple(rules_broken(answer)), kept, added)


def edit_request(draft: str) -> list[dict]:
    """The prompt that asks for an edit of `draft`, as messages."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": REQUEST.format(draft=draft)}]


def edit_by_rule(draft: str) -> str:
    """An editor in a few lines: the first sentence without a preamble, filler, brand, aside or address of the reader.

    It reads the checker's own lists of words, and knows the openings and phrases of `scripts/domains/house_style.py`
    only in part: the same drafts by another hand would be harder for it.
    """
    text = ASIDE.sub("", draft).split(". ")[0].rstrip(".")
    text = re.sub(r"^(This|The) (operation|API|action) ", "", text)
    text = re.sub(r"^(?:Use this \w+|Used) to (\w+)", r"\1s", text)
    text = re.sub(r" (in|for) your account$| that you (own|specify)$| for you$", "", text)
    for words in (FILLER, re.compile("Amazon Web Services"), BRAND):
        text = words.sub("", text)
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + "."
