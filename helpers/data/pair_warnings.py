"""What may be wrong with the text of one pair: warnings, which a person should read and a training run survives."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from helpers.credentials import kind_of_credential

TEMPLATE_TOKENS = re.compile(
    r"<\|[A-Za-z0-9_]+\|>|<｜[^｜\n]+｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?s>|<(?:bos|eos)>"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]")
# What all credentials that are looked for hold: most texts need no closer look, and to look for these is quick
MARKS = ("AKIA", "ASIA", "A3T", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "hf_", "sk-", "k_live", "PRIVATE KEY")
MARKS += ("eyJ", "xox", "hooks.slack", "pypi-A", "npm_", "_authToken", "://")
MAY_BE_SECRET = re.compile(
    r"A[KS]IA|A3T|gh[pousr]_|glpat-|\bhf_\w{20}|\bsk-[\w-]{20}|[rs]k_live|PRIVATE KEY|eyJ|xox[a-z]-|hooks\.slack|pypi-A"
    r"|npm_|_authToken|://[^\s/]+:"
)
EMAIL = re.compile(r"\b[\w.+-]+@(?!example\.)[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE)
PHONE = re.compile(r"(?<!\w)\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}\b")
DIGITS = re.compile(r"\d[\d -]{11}")
CARD = re.compile(r"\b(?:\d[ -]?){13,19}\b")
WORDS = re.compile(r"\w+")
NO_WORD = {code: " " for code in range(128) if not re.match(r"\w", chr(code))}  # of ASCII
CUT_AFTER = 200  # characters: a shorter answer without a full stop may be complete
LETTERS = 20  # of an answer, for its writing system to be told


def text_of(messages: list[dict]) -> str:
    """The text of messages, a line break between them."""
    return "\n".join(message["content"] for message in messages)


def plain(text: str) -> str:
    """The words of a text: without case, white space and punctuation."""
    text = text.lower()
    return " ".join(text.translate(NO_WORD).split() if text.isascii() else WORDS.findall(text))  # the first is quicker


def warnings_of(pair: dict) -> Iterator[tuple[str, str, str, str]]:
    """(kind, column, what is wrong, fix) for everything suspicious in a well-formed pair."""
    texts = {column: text_of(pair[column]) for column in ("prompt", "chosen", "rejected")}
    yield from _roles(pair["prompt"])
    for column, text in texts.items():
        yield from ((kind, column, wrong, fix) for kind, wrong, fix in _in_text(text))
        if column != "prompt" and _looks_cut(text):
            yield (
                "cut off",
                column,
                f"ends with {text.rstrip()[-20:]!r}, as if cut off",
                "write its end, or drop the row",
            )
    if _near_identical(texts["chosen"], texts["rejected"]):
        yield "near-identical", "rejected", "differs from chosen in case or punctuation only", "give another answer"
    systems = {column: system for column, text in texts.items() if (system := writing_system(text))}
    if len({systems[side] for side in ("chosen", "rejected") if side in systems}) == 2:
        wrong = f"is written in {systems['rejected']}, the chosen one in {systems['chosen']}"
        yield "writing systems", "rejected", wrong, "give both answers in one language, or style alone decides"


def _near_identical(chosen: str, rejected: str) -> bool:
    """Whether two different texts have the same words; those of very different length are not looked at."""
    longer = max(len(chosen), len(rejected))
    return (
        abs(len(chosen) - len(rejected)) <= 10 + longer // 5 and chosen != rejected and plain(chosen) == plain(rejected)
    )


def _roles(messages: list[dict]) -> Iterator[tuple[str, str, str, str]]:
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        yield "role order", "prompt", "has a system message that is not the first", "put it first"
    if any(one == other == "user" for one, other in pairwise(roles)):
        yield "role order", "prompt", "has two user messages in a row, which some templates refuse", "join them"


def _in_text(text: str) -> Iterator[tuple[str, str, str]]:
    if ("<" in text or "[" in text) and (found := TEMPLATE_TOKENS.search(text)):
        wrong = f"holds {found.group()!r}, which a tokenizer may read as its own token"
        yield "template tokens", wrong, "remove it; the chat template adds what is needed"
    if found := CONTROL.search(text):
        yield "control characters", f"holds the character {found.group()!a}", "remove it"
    if any(mark in text for mark in MARKS) and MAY_BE_SECRET.search(text) and (kind := kind_of_credential(text)):
        yield "secrets", f"holds what looks like a credential ({kind})", "remove it and revoke it"
    if "@" in text and EMAIL.search(text):
        yield "personal data", "holds what looks like an e-mail address", "replace it by a made-up one"
    if "+" in text and PHONE.search(text):
        yield "personal data", "holds what looks like a phone number", "replace it by a made-up one"
    if DIGITS.search(text) and any(_is_card(found.group()) for found in CARD.finditer(text)):
        yield "personal data", "holds what looks like a card number", "replace it by a made-up one"


def _is_card(text: str) -> bool:
    """Luhn's check: all true card numbers pass it, one number in ten does by chance."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if i % 2 else digit for i, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _looks_cut(text: str) -> bool:
    text = text.rstrip()
    return len(text) > CUT_AFTER and (text[-1].isalpha() or text[-1] in ",;(-") and "```" not in text[-200:]


def writing_system(text: str) -> str | None:
    """The writing system of most letters, as Unicode names it: LATIN, CYRILLIC, CJK, …; None for a few letters."""
    sample = text[:200]
    if sum(map(str.isalpha, sample)) < LETTERS:
        return None
    if sample.isascii():
        return "LATIN"
    letters = [character for character in sample if character.isalpha()]
    counts = Counter(unicodedata.name(letter, "?").partition(" ")[0] for letter in letters)
    return counts.most_common(1)[0][0]
