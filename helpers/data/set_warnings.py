"""What may be wrong with a set of pairs as a whole: copies, contradictions, leaks into the held-out set, short cuts."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator

from helpers.data.pair_warnings import plain, text_of

NGRAM = 13  # words in a row that two texts share only if one was copied, as in the GPT-3 paper's appendix C
SHINGLE, SKETCH, ALIKE = (
    4,
    24,
    0.8,
)  # words of a shingle, shingles kept of a prompt, share of them that near-copies have
COMMON = 40  # prompts with one shingle: more of them, and it is a phrase of the domain
PHRASE_WORDS, PHRASE = 5, 0.05  # a run of so many words in more of the held-out rows is an instruction, no leak
ONE_SIDED = 0.9  # a value that so many rows share
TELLS = 0.7  # how often length alone may be right before it is a short cut


def set_warnings(dataset, heldout=None) -> Iterator[tuple[str, list[int], str, str]]:
    """(kind, rows, what is wrong, fix) for the set. rows: those concerned; empty where it is the whole set."""
    prompts = [plain(text_of(prompt)) for prompt in dataset["prompt"]]
    answers = list(zip(*(map(plain, map(text_of, dataset[side])) for side in ("chosen", "rejected")), strict=True))
    yield from _copies(prompts, answers)
    yield from _length(dataset)
    yield from _one_sided(dataset)
    if heldout is not None:
        yield from _leaks(prompts, answers, heldout)


def _copies(prompts: list[str], answers: list[tuple[str, str]]) -> Iterator[tuple[str, list[int], str, str]]:
    first: dict[tuple, int] = {}
    copies = [row for row, key in enumerate(zip(prompts, answers, strict=True)) if first.setdefault(key, row) != row]
    if copies:
        yield "duplicates", copies, f"{len(copies)} rows repeat an earlier row", "keep one of them"
    near = [row for row, other in near_copies(prompts) if row not in set(copies)]
    if near:
        wrong = f"{len(near)} prompts are almost an earlier prompt"
        yield "near-duplicates", near, wrong, "keep one of them, or keep them in one split (split_by a column)"
    chosen, conflicts = defaultdict(dict), []
    for row, (prompt, (better, _)) in enumerate(zip(prompts, answers, strict=True)):
        chosen[prompt].setdefault(better, row)
    for row, (prompt, (better, worse)) in enumerate(zip(prompts, answers, strict=True)):
        if worse != better and worse in chosen[prompt]:
            conflicts.append(row)
    if conflicts:
        wrong = f"{len(conflicts)} rows reject an answer that another row of the same prompt chooses"
        yield "conflicts", conflicts, wrong, "decide which answer is better"


def near_copies(texts: list[str]) -> list[tuple[int, int]]:
    """(row, earlier row) of texts that share most of their shingles, told from the smallest hashes of each (MinHash).

    Equal texts are not among them.
    """
    sketches = [_sketch(text) for text in texts]
    rows_with, found = defaultdict(list), []
    for row, sketch in enumerate(sketches):
        shared = Counter(other for item in sketch for other in rows_with[item] if len(rows_with[item]) <= COMMON)
        for other, count in shared.most_common(5):
            either = len(sketch) + len(sketches[other]) - count
            if count >= ALIKE * either and texts[other] != texts[row]:
                found.append((row, other))
                break
        for item in sketch:
            rows_with[item].append(row)
    return found


def _sketch(text: str) -> set[int]:
    words = text.split()
    if len(words) < 2 * SHINGLE:  # too short to be told apart from another text of the same form
        return set()
    shingles = {zlib.crc32(" ".join(words[i : i + SHINGLE]).encode()) for i in range(len(words) - SHINGLE + 1)}
    return set(sorted(shingles)[:SKETCH])


def _length(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    right = longer_wins(dataset)
    if max(right, 1 - right) > TELLS and len(dataset) >= 10:
        which = "longer" if right > 0.5 else "shorter"
        wrong = f"the {which} answer is the chosen one in {max(right, 1 - right):.0%} of the pairs"
        yield "length bias", [], wrong, "a model may learn length alone: add pairs in which it is the other way round"


def longer_wins(dataset) -> float:
    """How often the chosen answer is the longer one, in characters; a tie is half a win."""
    lengths = [[len(text_of(messages)) for messages in dataset[side]] for side in ("chosen", "rejected")]
    wins = [(chosen > rejected) + (chosen == rejected) / 2 for chosen, rejected in zip(*lengths, strict=True)]
    return sum(wins) / max(1, len(wins))


def _one_sided(dataset) -> Iterator[tuple[str, list[int], str, str]]:
    for column in ("group", "service", "rejected_kind"):
        if column in dataset.column_names:
            counts = Counter(dataset[column])
            value, count = counts.most_common(1)[0]
            if len(counts) > 1 and count > ONE_SIDED * len(dataset):
                wrong = f"{value!r} is the {column} of {count / len(dataset):.0%} of the rows"
                yield "imbalance", [], wrong, "add rows of the others, or judge each by itself"


def _leaks(prompts, answers, heldout) -> Iterator[tuple[str, list[int], str, str]]:
    """Held-out rows that training rows give away. rows are those of the training set."""
    asked = {plain(text_of(prompt)) for prompt in heldout["prompt"]}
    rows = [tuple(map(text_of, row)) for row in zip(heldout["prompt"], heldout["chosen"], strict=True)]
    counts = Counter(gram for row in rows for gram in ngrams(*row, length=PHRASE_WORDS))
    phrases = {gram for gram, count in counts.items() if count > max(2, PHRASE * len(rows))}
    known = {gram for row in rows for gram in ngrams(*row, phrases=phrases)}
    same = [row for row, prompt in enumerate(prompts) if prompt in asked]
    if same:
        yield "leaks", same, f"{len(same)} training prompts are held-out prompts too", "split by prompt or by group"
    texts = enumerate(zip(prompts, answers, strict=True))
    shared = [
        row for row, (prompt, (chosen, _)) in texts if not known.isdisjoint(ngrams(prompt, chosen, phrases=phrases))
    ]
    if other := sorted(set(shared) - set(same)):
        wrong = f"{len(other)} training rows share {NGRAM} words in a row with a held-out one"
        yield "leaks", other, wrong, "split by a column that keeps such rows together"


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
