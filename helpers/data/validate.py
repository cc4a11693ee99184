"""Check preference pairs row by row, before a run costs an hour."""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from helpers.data.pair_warnings import warnings_of
from helpers.data.row_checks import Problem, checked, row_problems
from helpers.data.schema import COLUMNS
from helpers.data.set_warnings import set_warnings
from helpers.data.template import render
from helpers.data.tokenize import tokenize_preferences
from helpers.files import write_text


@dataclass
class Finding:
    """Something suspicious about the whole set. rows: those concerned, none where it is all of them."""

    kind: str
    wrong: str
    fix: str
    rows: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind}: {self.wrong}; {self.fix}"


@dataclass
class ValidationReport:
    """What validation found in `rows` rows of the data set called `name`.

    problems: rows that can't be trained on. warnings: rows that a person should read. findings: what concerns the set.
    """

    name: str
    rows: int
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def raise_if_invalid(self) -> None:
        """Raise a ValueError that names the first problem and counts the others.

        It says how rows are counted, since what is wrong with a line of a file is told by an editor's number.
        """
        if self.problems:
            others = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise ValueError(f"{self.name}: {self.problems[0]}{others} (the first row is row 0)")

    def table(self) -> list[dict]:
        """A line for each kind: `severity`, `kind`, `count` (rows), `first` (an example) and `fix`, the worst first."""
        lines = []
        for severity, found in (("error", self.problems), ("warning", self.warnings)):
            for kind, count in Counter(problem.kind for problem in found).most_common():
                first = next(problem for problem in found if problem.kind == kind)
                example = f"row {first.row}, {first.column}: {first.wrong}"
                lines.append({"severity": severity, "kind": kind, "count": count, "first": example, "fix": first.fix})
        for finding in self.findings:
            where = f" (row {finding.rows[0]})" if finding.rows else ""
            count = len(finding.rows) or self.rows
            first = f"{finding.wrong}{where}"
            lines.append({"severity": "set", "kind": finding.kind, "count": count, "first": first, "fix": finding.fix})
        return lines

    def set_aside(self, dataset: Dataset, path: str | Path) -> Dataset:
        """The data set without its unusable rows, which are written to a JSON Lines file with what is wrong with each.

        Prints how many, and where. Raises ValueError where no row is left.
        """
        wrong: dict[int, list[str]] = {}
        for problem in self.problems:
            wrong.setdefault(problem.row, []).append(str(problem))
        good = [row for row in range(len(dataset)) if row not in wrong]
        if not good:
            raise ValueError(f"{self.name}: no row can be used; the first: {self.problems[0]}")
        if wrong:
            lines = [json.dumps({"row": row, "problems": wrong[row], "content": dataset[row]}) for row in sorted(wrong)]
            write_text(Path(path), "\n".join(lines) + "\n")
            print(f"{self.name}: {len(wrong)} of {len(dataset)} rows set aside in {path}")
        return dataset.select(good)

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows, {len(self.problems)} problems"
        if self.warnings or self.findings:
            head += f", {len(self.warnings)} warnings, {len(self.findings)} findings about the set"
        kinds = [
            f"{line['kind']} ({line['count']}): {line['first']}; {line['fix']}"
            for line in self.table()
            if line["severity"] != "error"
        ]
        return "\n".join([head, *map(str, self.problems[:10]), *kinds])


def validate_preferences(
    dataset: Dataset,
    name: str = "preferences",
    *,
    heldout: Dataset | None = None,
    tokenizer=None,
    max_length: int | None = None,
    strict: bool = False,
) -> ValidationReport:
    """Check every row, then the set.

    problems: columns and messages that can't be read, empty or equal responses, a prompt repeated inside a response.
    warnings: template tokens, control characters, likely secrets and personal data, near-identical answers, role order,
    answers that look cut off or are in another writing system; with tokenizer and max_length, also rows that are cut.
    findings: copies, conflicting pairs, length that alone tells the better answer, imbalance; with heldout, training
    rows that give it away. With strict, a problem is raised as ValueError; else `set_aside` takes such rows out.
    """
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        fix = f"give each row {', '.join(COLUMNS)}"
        report = ValidationReport(name, len(dataset), [Problem(0, column, "is missing", fix) for column in missing])
    else:
        report = _checked(dataset, name, heldout, tokenizer, max_length)
    if strict:
        report.raise_if_invalid()
    return report


def _checked(dataset: Dataset, name: str, heldout, tokenizer, max_length: int | None) -> ValidationReport:
    report, good = ValidationReport(name, len(dataset)), []
    for row, example in enumerate(dataset):
        if problems := list(row_problems(row, example)):
            report.problems += problems
            continue
        good.append(row)
        report.warnings += [Problem(row, column, *told, kind) for kind, column, *told in warnings_of(example)]
    kept = dataset if len(good) == len(dataset) else dataset.select(good)
    if good:
        report.findings = [
            Finding(kind, wrong, fix, [good[row] for row in rows])
            for kind, rows, wrong, fix in set_warnings(kept, heldout)
        ]
    if tokenizer is not None and good:
        _check_tokens(report, kept, good, tokenizer, max_length or sys.maxsize)
    return report


def _check_tokens(report: ValidationReport, kept: Dataset, good: list[int], tokenizer, max_length: int) -> None:
    """Rows that the chat template refuses, and rows that lose tokens at this length."""
    fits = []
    for index, example in enumerate(kept):
        try:
            render(example, tokenizer)
            fits.append(index)
        except ValueError as error:
            wrong, _, fix = str(error).rpartition("; ")
            report.problems.append(Problem(good[index], "prompt", wrong, fix, "chat template"))
    for tokens in tokenize_preferences(checked(kept.select(fits)), tokenizer, max_length) if fits else ():
        for column in COLUMNS:
            if cut := tokens[f"{column}_cut"]:
                row, wrong = good[fits[tokens["row"]]], f"loses {cut} tokens at max_length {max_length}"
                report.warnings.append(Problem(row, column, wrong, "shorten it, or raise max_length", "too long"))
