"""Rows → a data set of checked pairs, in memory or on disk, and what is said about them.

Rows are checked as they were written, before Arrow gives every row the columns and keys of all others.
"""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from helpers.data.columns import Layout, recognise
from helpers.data.messages import MESSAGE_KEYS
from helpers.data.pairs import Counts, LabelledAnswers, pairs_of_row
from helpers.data.read import Rows
from helpers.data.row_checks import Problem, RowError, put_system, row_problems
from helpers.data.schema import ABOUT, COLUMNS, SIDES, SOURCE, TEMPLATE, encoded, system_text_first
from helpers.data.splits import TIME, place_of, places_by_time, prompt_text, split_column, split_of_place
from helpers.data.validate import ValidationReport
from helpers.files import cache_folder, make_atomically, read_json, write_json, write_text

SAMPLE = 100  # rows that columns are recognised by
LARGE = 64 << 20  # bytes of a source whose pairs are kept on disk instead of in memory


@dataclass(frozen=True)
class Options:
    """How rows are read; `load_preferences` explains each."""

    columns: dict[str, str] | None = None
    min_gap: float | None = None
    split_by: str | None = None
    system_in_user: bool = False
    strict: bool = True
    answers_only: bool = False  # rows have one right answer; the rejected ones come later


def read_pairs(files: list[Rows], options: Options, split: str | None, made: set[str]) -> Dataset:
    """All pairs of the files, or those of one split where the splits in `made` are taken from the training rows.

    Prints what was recognised, what nothing reads, and what was set aside. Raises ValueError for a bad row, unless
    `options.strict` is off, and where no pair is left.
    """
    if sum(file.bytes for file in files) >= LARGE and all(file.key for file in files):
        return _on_disk(files, options, split, made)
    reading = Reading(files, options, split, made)
    pairs = list(reading.pairs())
    kept = [pair for pair, keep in zip(pairs, reading.kept(), strict=True) if keep]
    _tell(reading.report(len(kept)))
    features = reading.features()
    return Dataset.from_list([_cells(pair, features) for pair in kept], features=features)


def _on_disk(files: list[Rows], options: Options, split: str | None, made: set[str]) -> Dataset:
    """The pairs in an Arrow file in the cache folder, made in two readings: one to check, one to write."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    asked = repr([[file.key() for file in files], options, split, sorted(made)])
    folder = cache_folder() / f"own-{hashlib.sha256(code + asked.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        make_atomically(folder, lambda temporary: _write(temporary, files, options, split, made))
    _tell(read_json(folder / "report.json"))
    return Dataset.from_file(str(folder / "pairs.arrow"))


def _write(folder: Path, files: list[Rows], options: Options, split: str | None, made: set[str]) -> None:
    reading = Reading(files, options, split, made)
    for _ in reading.pairs():
        pass
    kept, features = reading.kept(), reading.features()
    write_json(folder / "report.json", reading.report(sum(kept)))
    again = Reading(files, options, split, made).pairs()
    with ArrowWriter(features=features, path=str(folder / "pairs.arrow")) as writer:
        for pair in itertools.compress(again, kept):
            writer.write(_cells(pair, features))
        writer.finalize()


def _tell(lines: list[str]) -> None:
    print("\n".join(lines))


class Reading:
    """One pass over files: its pairs, one by one, and what was noted on the way."""

    def __init__(self, files: list[Rows], options: Options, split: str | None, made: set[str]):
        self.files, self.options, self.split, self.made = files, options, split, made
        self.counts, self.bad, self.causes = Counts(), [], Counter()
        self.places: list = []  # of each pair: its place in [0, 1), or its time
        self.layouts: dict[str, list[str]] = {}  # what was recognised → the files
        self.columns: dict[str, None] = {}  # all columns, in the order in which they came
        self.read: set[str] = set()
        self.keys: dict[str, None] = {}  # of messages
        self.used: Counter = Counter()  # how many pairs have each of the columns that a pair may lack
        self.total = 0

    def pairs(self) -> Iterator[dict]:
        """Every pair that is right. Raises ValueError at the end of a file that holds a bad row, if strict."""
        for file in self.files:
            problems, rows = [], 0
            layout = self._recognised(file)
            for number, row, pair in self._raw(file, layout, problems):
                rows = number + 1
                if found := self._completed(number, row, pair):
                    self._set_aside(file, number, row, found, problems)
                    continue
                self._note(pair)
                self.counts.note_source(row)
                yield pair
            if self.options.strict:
                ValidationReport(file.name, rows, problems).raise_if_invalid()
        if not self.total:
            first = f"; the first: {self.bad[0]['problems'][0]}" if self.bad else ""
            raise ValueError(f"{self.files[0].name}: gives no pair{first}")

    def _recognised(self, file: Rows) -> Layout:
        sample = [row for _, row in itertools.islice(file.read(), SAMPLE)]
        if not sample:
            raise ValueError(f"{file.name} holds no rows: write one JSON object a line, with {', '.join(COLUMNS)}")
        names = file.columns or list(dict.fromkeys(name for row in sample for name in row))
        try:
            layout = recognise(names, sample, self.options.columns, self.options.answers_only)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        if self.options.min_gap is not None and layout.kind != "ranked":
            raise ValueError(f"{file.name}: min_gap is for a list of answers with scores; leave it out")
        self.layouts.setdefault(str(layout), []).append(file.name)
        self.columns |= dict.fromkeys(names)
        self.read |= layout.read
        return layout

    def _raw(self, file: Rows, layout: Layout, problems: list) -> Iterator[tuple[int, dict, dict]]:
        """(row number, row, pair) before the pair is checked."""
        labelled = LabelledAnswers(layout, self.counts) if layout.kind == "labelled" else None
        for number, (place, row) in enumerate(file.read()):
            self.columns |= dict.fromkeys(row)
            try:
                if labelled:
                    labelled.add(number, row)
                else:
                    for pair in pairs_of_row(row, layout, self.options.min_gap, self.counts):
                        yield number, row, pair
            except RowError as error:
                if error.is_missing and self.options.strict:
                    raise ValueError(f"{file.name}, {place}: {error.wrong}; {error.fix}") from error
                self._set_aside(file, number, row, [Problem(number, error.column, error.wrong, error.fix)], problems)
        yield from labelled.pairs() if labelled else ()

    def _completed(self, number: int, row: dict, pair: dict) -> list[Problem]:
        """Put the system text and the group into the pair; what is wrong with it."""
        try:
            if found := list(row_problems(number, pair, SIDES[:1] if self.options.answers_only else SIDES)):
                return found
            put_system(pair)
            if self.options.system_in_user:
                pair["prompt"], before = system_text_first(pair["prompt"]), pair["prompt"]
                self.counts.system_moved += pair["prompt"] != before
            self._put_place(row, pair)
        except RowError as error:
            return [Problem(number, error.column, error.wrong, error.fix)]
        except ValueError as error:
            wrong, _, fix = str(error).rpartition("; ")
            return [Problem(number, "prompt", wrong, fix)]
        return []

    def _put_place(self, row: dict, pair: dict) -> None:
        by = self.options.split_by
        column = split_column(by)
        value = row.get(column) if column else None
        if by is None or not self.made:
            self.places.append(None)
        elif column is None:
            self.places.append(place_of(prompt_text(pair["prompt"])))
        elif value in (None, ""):
            raise RowError(column, "is empty or missing", f"write it in every row, or split by another than {column!r}")
        else:
            self.places.append(value if by.startswith(TIME) else place_of(value))
        if column:
            self.read.add(column)
            if not by.startswith(TIME) and value not in (None, ""):
                pair["group"] = str(value)

    def _note(self, pair: dict) -> None:
        self.total += 1
        for side in COLUMNS:
            for message in pair[side]:
                self.keys |= message
        self.used.update(name for name in TEMPLATE if pair.get(name) is not None)
        self.used.update(name for name in ABOUT if isinstance(pair.get(name), str))

    def _set_aside(self, file: Rows, number: int, row: dict, found: list[Problem], problems: list) -> None:
        problems += found
        if not self.options.strict:
            self.causes.update(f"{problem.column}: {problem.wrong}" for problem in found[:1])
            self.bad.append({"file": file.name, "row": number, "problems": list(map(str, found)), "content": row})

    def kept(self) -> list[bool]:
        """Of each pair, whether it belongs to the split."""
        if self.split is None or not self.made:
            return [True] * self.total
        places = self.places
        if (self.options.split_by or "").startswith(TIME):
            try:
                places = places_by_time(places)
            except ValueError as error:
                raise ValueError(f"{self.files[0].name}, {split_column(self.options.split_by)}: {error}") from error
        kept = [split_of_place(place, self.made) == self.split for place in places]
        if not any(kept):
            raise ValueError(
                f"{self.files[0].name}: none of {self.total} pairs falls into the split {self.split!r}: give more pairs"
            )
        return kept

    def features(self) -> Features:
        """The columns of the data set. A cell is text, or a list of messages, whose keys are all that occur."""
        keys = {key: Value("string") for key in MESSAGE_KEYS if key in self.keys}
        features = {side: List(keys) for side in COLUMNS}
        return Features(features | {name: Value("string") for name in (*TEMPLATE, *ABOUT) if self._kept_column(name)})

    def _kept_column(self, name: str) -> bool:
        return bool(self.used[name]) if name in TEMPLATE else self.used[name] == self.total

    def report(self, kept: int) -> list[str]:
        """What to tell the user, a line each. Writes the rows that were set aside."""
        name = self.files[0].name
        share = f" of {self.total}, the split {self.split!r} by {self.options.split_by}" if self.split else ""
        lines = [f"{files[0]}: {kept} pairs{share} ({layout})" for layout, files in list(self.layouts.items())[:1]]
        lines += [f"{files[0]}: read as ({layout})" for layout, files in list(self.layouts.items())[1:]]
        known = {*self.read, SOURCE, *(ours for ours in (*TEMPLATE, *ABOUT) if self._kept_column(ours))}
        left_out = sorted({str(column) for column in self.columns} - known)
        left_out += [f"{key} of messages" for key in self.keys if key not in MESSAGE_KEYS]
        if left_out:
            lines.append(f"{name}: nothing reads {', '.join(left_out)}; left out")
        lines += [f"{name}: {line}" for line in self.counts.lines()]
        return lines + self._told_aside(name)

    def _told_aside(self, name: str) -> list[str]:
        if not self.bad:
            return []
        folder = cache_folder() / "set_aside"
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", name.removesuffix(".jsonl")).strip("-")
        path = folder / f"{stem}.jsonl"
        write_text(path, "".join(json.dumps(row, default=str) + "\n" for row in self.bad))
        causes = ", ".join(f"{cause} ({count})" for cause, count in self.causes.most_common(3))
        return [f"{name}: {len(self.bad)} bad rows set aside in {path}: {causes}"]


def _cells(pair: dict, features: Features) -> dict:
    """A pair's cells as Arrow keeps them unchanged: tools and calls as JSON text, since rows differ in their keys."""
    keys = features["prompt"].feature
    messages = {side: [{key: encoded(message.get(key)) for key in keys} for message in pair[side]] for side in COLUMNS}
    return messages | {name: encoded(pair.get(name)) for name in features if name not in COLUMNS}
