"""What may be wrong with a set of pairs as a whole: copies, contradictions, leaks into the held-out set, short cuts."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import numpy as np

from helpers.data.near_copies import Sketches, near_copies, sketched
from helpers.data.pair_warnings import plain, text_of
from helpers.data.schema import COLUMNS, ONE_SIDED, SIDES, SOURCE

NGRAM = 13  # words in a row that two texts share only if one was copied, as in the GPT-3 paper's appendix C
BATCH, NEAR_ROWS = 1000, 100_000  # rows read at once; prompts that are searched for near-copies
LANGUAGE_ROWS, LANGUAGE_SAMPLE = 2000, 300  # pairs whose languages are looked at, and characters of each answer
LANGUAGE_LETTERS, LANGUAGE_SURE = 60, 0.99  # shorter texts tell no language; probability from which one is named
TEACHES = {
    "nearest": "they teach facts: each is a right answer to another prompt",
    "numbers": "they teach numbers and nothing else",
    "sampled": "they teach style as much as facts: compare with the baselines that need no model",
}
PHRASE_WORDS, PHRASE = 5, 0.05  # a run of so many words in more of the held-out rows is an instruction, no leak
KINDS = 8  # of rejected answers that are named
TELLS = 0.7  # how often length alone may be right before it is a short cut


def set_warnings(dataset, heldout=None) -> Iterator[tuple[str, list[int], str, str]]:
    """(kind, rows, what is wrong, fix) for the set. rows: those concerned; empty where it is the whole set.

    Each check reads the columns that it needs, row by row, and keeps numbers: the set may be larger than memory.
    """
    yield from _copies(dataset)
    prompts, looked_at = _prompts(dataset)
    yield from _near_copies(dataset, prompts, looked_at)
    yield from _length(dataset)
    yield from _languages(dataset)
    yield from _made_answers(dataset)
    yield from _one_sided(dataset)
    if heldout is not None:
        yield from _leaks(dataset, heldout, prompts)


def _texts(dataset, column: str) -> Iterator[str]:
    """The texts of a column, row by row."""
    for batch in dataset.select_columns([column]).iter(BATCH):
        yield from map(text_of, batch[column])


def _keys(dataset, column: str) -> np.ndarray:
    """A number for each row's words, (n,) int64: equal words have equal numbers."""
    return np.fromiter((hash(plain(text)) for text in _texts(dataset, column)), np.int64, len(dataset))


def _every(rows: int, most: int) -> range:
    """All rows, or every n-th, so that they are `most` or fewer."""
    return range(0, rows, -(-rows // most))


def _copies(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    prompt, chosen, rejected = (_keys(dataset, column) for column in COLUMNS)
    whole = np.stack([prompt, chosen, rejected], axis=1)
    _, first = np.unique(whole, axis=0, return_index=True)
    copies = np.setdiff1d(np.arange(len(whole)), first).tolist()
    if copies:
        yield "duplicates", copies, f"{len(copies)} rows repeat an earlier row", "keep one of them"
    right, wrong = (list(zip(prompt.tolist(), answer.tolist(), strict=True)) for answer in (chosen, rejected))
    chosen_somewhere = set(right)
    conflicts = [row for row, pair in enumerate(wrong) if pair in chosen_somewhere and pair != right[row]]
    if conflicts:
        what = f"{len(conflicts)} rows reject an answer that another row of the same prompt chooses"
        yield "conflicts", conflicts, what, "decide which answer is better"


def _prompts(dataset) -> tuple[Sketches, int]:
    """What the prompts of the set look like, of a very large one every n-th, and how many were looked at."""
    rows = _every(len(dataset), NEAR_ROWS)
    looked_at = dataset.select(rows) if len(rows) < len(dataset) else dataset
    found = sketched(map(plain, _texts(looked_at, "prompt")))
    found.rows = [rows[row] for row in found.rows]
    return found, len(rows)


def _near_copies(dataset, prompts: Sketches, looked_at: int) -> Iterator[tuple[str, list[int], str, str]]:
    if near := [row for row, _ in near_copies(prompts)]:
        of = "" if looked_at == len(dataset) else f" of {looked_at} that were looked at"
        wrong = f"{len(near)} prompts{of} are almost an earlier prompt"
        yield "near-duplicates", near, wrong, "keep one of them, or keep them in one split (split_by a column)"


def _languages(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    """Pairs whose answers are in two languages, by py3langid; of a large set every n-th row is looked at."""
    if find_spec("py3langid") is None:  # it needs NumPy 2, which Neuron's compiler does not allow
        yield "languages", [], "not looked at, since py3langid is not installed", "pip install py3langid==0.4.0"
        return
    rows = _every(len(dataset), LANGUAGE_ROWS)
    looked_at = dataset.select(rows) if len(rows) < len(dataset) else dataset
    texts = {side: [text[:LANGUAGE_SAMPLE] for text in _texts(looked_at, side)] for side in SIDES}
    mixed = [
        (row, one, other)
        for row, chosen, rejected in zip(rows, *texts.values(), strict=True)
        if (one := language(chosen)) and (other := language(rejected)) and one != other
    ]
    if mixed:
        of = "" if looked_at is dataset else f" of {len(rows)} that were looked at"
        wrong = f"{len(mixed)} pairs{of} have answers in two languages, the first {mixed[0][1]} and {mixed[0][2]}"
        fix = "give both answers in one language, or style alone decides"
        yield "languages", [row for row, *_ in mixed], wrong, fix


@cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: str) -> str | None:
    """The language of a text, such as "en"; None where it is too short or could be another one."""
    if sum(map(str.isalpha, text)) < LANGUAGE_LETTERS:
        return None
    found, probability = _identifier().classify(text)
    return found if probability >= LANGUAGE_SURE else None


def _made_answers(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    """The shares of the kinds of rejected answers, and what each teaches; one that is not known breaks a rule."""
    kinds = Counter(dataset["rejected_kind"]) if "rejected_kind" in dataset.column_names else Counter()
    if most := kinds.most_common(KINDS):
        shares = ", ".join(f"{kind} {count / len(dataset):.0%}" for kind, count in most)
        others = f", and {len(kinds) - KINDS} more" if len(kinds) > KINDS else ""
        teaches = [TEACHES.get(kind, f"{kind}: they teach the rule that it breaks") for kind, _ in most]
        yield "made answers", [], f"rejected answers were made ({shares}{others})", "; ".join(teaches)


def _length(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    right = longer_wins(dataset)
    if max(right, 1 - right) > TELLS and len(dataset) >= 10:
        which = "longer" if right > 0.5 else "shorter"
        wrong = f"the {which} answer is the chosen one in {max(right, 1 - right):.0%} of the pairs"
        yield "length bias", [], wrong, "a model may learn length alone: add pairs in which it is the other way round"


def longer_wins(dataset) -> float:
    """How often the chosen answer is the longer one, in characters; a tie is half a win."""
    chosen, rejected = (np.fromiter(map(len, _texts(dataset, side)), np.int64, len(dataset)) for side in SIDES)
    return float(np.mean((chosen > rejected) + (chosen == rejected) / 2)) if len(dataset) else 0.0


def _one_sided(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    for column in ("group", "service", SOURCE, "rejected_kind"):
        if column in dataset.column_names:
            counts = Counter(dataset[column])
            value, count = counts.most_common(1)[0]
            if len(counts) > 1 and count > ONE_SIDED * len(dataset):
                wrong = f"{value!r} is the {column} of {count / len(dataset):.0%} of the rows"
                yield "imbalance", [], wrong, "add rows of the others, or judge each by itself"


def _leaks(dataset, heldout, prompts: Sketches) -> Iterator[tuple[str, list[int], str, str]]:
    """Held-out rows that training rows give away. rows are those of the training set."""
    asked = set(_keys(heldout, "prompt").tolist())
    rows = list(zip(_texts(heldout, "prompt"), _texts(heldout, "chosen"), strict=True))
    counts = Counter(gram for row in rows for gram in ngrams(*row, length=PHRASE_WORDS))
    phrases = {gram for gram, count in counts.items() if count > max(2, PHRASE * len(rows))}
    known = {gram for row in rows for gram in ngrams(*row, phrases=phrases)}
    same, shared = [], []
    for row, (prompt, chosen) in enumerate(zip(_texts(dataset, "prompt"), _texts(dataset, "chosen"), strict=True)):
        if hash(plain(prompt)) in asked:
            same.append(row)
        elif not known.isdisjoint(ngrams(prompt, chosen, phrases=phrases)):
            shared.append(row)
    if same:
        yield "leaks", same, f"{len(same)} training prompts are held-out prompts too", "split by prompt or by group"
    if shared:
        wrong = f"{len(shared)} training rows share {NGRAM} words in a row with a held-out one"
        yield "leaks", shared, wrong, "split by a column that keeps such rows together"
    given_away = {*same, *shared}
    near = [row for row, _ in near_copies(prompts, _prompts(heldout)[0]) if row not in given_away]
    if near:
        wrong = f"{len(near)} training prompts are almost a held-out prompt"
        yield "leaks", near, wrong, "keep one of them, or split by a column that keeps them together"


def ngrams(*texts: str, length: int = NGRAM, phrases: set[int] = frozenset()) -> set[int]:
    """64-bit hashes of all runs of `length` words of the texts, without the words that belong to `phrases`."""
    runs = []
    for words in (plain(text).split() for text in texts):
        starts = [at for at in range(len(words)) if phrases and _hash(words, at, PHRASE_WORDS) in phrases]
        told = {at + offset for at in starts for offset in range(PHRASE_WORDS)}
        runs.append([word for at, word in enumerate(words) if at not in told])
    return {_hash(words, at, length) for words in runs for at in range(len(words) - length + 1)}


def _hash(words: list[str], start: int, length: int) -> int:
    return hash(" ".join(words[start : start + length]))
