"""Answers of several models to look at: page by page beside the draft, and to a text of one's own."""

import re
from difflib import SequenceMatcher

import numpy as np

from helpers.data.house_style import check_answer
from helpers.data.schema import references
from helpers.evaluation.checked import can_check, verdicts
from helpers.runs.recorded import recorded_label
from helpers.show.notebook import in_notebook, show_widget, spoken
from helpers.show.pages import Pages, boxed, escaped

HIGHEST = "▲"
WORDS = re.compile(r"\s+|\w+(?:['’]\w+)*|[^\w\s]")


def draft_of(prompt: list[dict]) -> str:
    """What a prompt of the house style asks to edit: its text below the line of the request."""
    asked = prompt[-1]["content"]
    return asked.partition("\n")[2] or asked


def marked(source: str, answer: str, removed: bool = False) -> str:
    """The answer as HTML: words that the source lacks in <ins>; where `removed`, the source's other words in <del>."""
    before, after = (WORDS.findall(text) for text in (source, answer))
    parts = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        old, new = escaped("".join(before[i:j])), escaped("".join(after[k:m]))
        if kind == "equal":
            parts.append(new)
            continue
        if removed and old.strip():
            parts.append(f"<del>{old}</del>{'' if new.strip() else ' '}")
        parts.append(f"<ins>{new}</ins>" if new.strip() else new)
    return "".join(parts)


def marked_answer(source: str, answer: str, removed: bool = False) -> str:
    """The same of what a model said; that it said nothing is no word of its own."""
    return marked(source, spoken(answer), removed) if answer else escaped(spoken(answer))


def verdict_text(verdict) -> str:
    """What the checker says, in words."""
    faults = [*verdict.broken] + ([] if verdict.facts_hold else ["facts"])
    return "✓ accepted" if verdict.accepted else f"✗ refused: {', '.join(faults)}"


def columns(heads, *rows) -> str:
    """An HTML table of a column for each head; the cells are HTML already."""
    lines = ["".join(f"<th scope='col'>{escaped(head)}</th>" for head in heads)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def preference_table(logps: dict[str, list[float]]) -> str:
    """{model: mean log-prob of each model's answer} as HTML: a row an answer, the highest of a column marked."""
    heads = ["log-prob per token", *(f"under {label}" for label in logps)]
    highest, rows = [np.nanmax([-np.inf, *column]) for column in logps.values()], []
    for i, whose in enumerate(logps):
        cells = ["no answer" if np.isnan(column[i]) else f"{column[i]:.2f}" for column in logps.values()]
        best = [column[i] == top for column, top in zip(logps.values(), highest, strict=True)]
        told = (f"<b>{HIGHEST} {cell}</b>" if top else cell for cell, top in zip(cells, best, strict=True))
        rows.append([f"answer of {escaped(whose)}", *told])
    return columns(heads, *rows) + f"<p class=note>{HIGHEST} the answer that this model finds likeliest (nats).</p>"


class Comparison:
    """What `compare_answers` shows: `pages`, `removed` (a box to tick) and `prefer`, the button that scores."""

    def __init__(self, asked, answers: dict[str, list[str]], speakers=None):
        import ipywidgets as widgets

        short = {label: len(texts) for label, texts in answers.items() if len(texts) < len(asked)}
        if short or (speakers and speakers.labels != list(answers)):
            raise ValueError(
                f"{len(asked)} prompts, answers {short or list(answers)}: give each model's answer to each"
            )
        self.asked, self.answers, self.speakers = asked, answers, speakers
        self.checked, self.scored = can_check(asked), {}
        self.better = references(asked)
        self.label = recorded_label(*(text for texts in answers.values() for text in texts))
        told = {label: texts[: len(asked)] for label, texts in answers.items()}
        self.verdicts = {label: verdicts(texts, asked) for label, texts in told.items()} if self.checked else {}
        self.removed = widgets.Checkbox(description="show the words that were taken out", indent=False)
        self.prefer = widgets.Button(description="Who prefers what?", tooltip="scores each answer with each model")
        self.pages = Pages(len(asked), "draft" if self.checked else "prompt", self.html)
        self.removed.observe(lambda _: self.pages.show(), "value")
        self.prefer.on_click(lambda _: self.score())
        tools = widgets.HBox([self.removed, *([self.prefer] if speakers else [])])
        self.view = widgets.VBox([self.pages.row, tools, self.pages.page])

    def source(self, i: int) -> str:
        """The text that answers are compared with: the draft, or where there is none the answer of the data."""
        return draft_of(self.asked[i]["prompt"]) if self.checked else self.better[i]

    def html(self, i: int) -> str:
        """One page."""
        asked = self.asked[i]["prompt"][-1]["content"]
        kind, other = ("draft", "the better revision") if self.checked else ("prompt", "the better answer")
        parts = [f"<p><b>{kind}</b>: {escaped(self.source(i) if self.checked else asked)}</p>"]
        parts.append(f"<p class=note>{other}: {escaped(self.better[i])}</p>")
        rows = [[verdict_text(found[i]) for found in self.verdicts.values()]] if self.checked else []
        said = (texts[i] for texts in self.answers.values())
        rows.append([marked_answer(self.source(i), answer, self.removed.value) for answer in said])
        legend = f"Underlined: words that the {'draft' if self.checked else 'better answer'} does not have."
        if self.label:
            legend += f" Answers {self.label}."
        parts += [columns(self.answers, *rows), f"<p class=note>{legend}</p>", self.scored.get(i, "")]
        return boxed("".join(parts))

    def score(self) -> None:
        """Score the page's answers with each model, once; the first time the models are loaded."""
        i = self.pages.at
        if i in self.scored:
            return
        self.prefer.disabled, self.prefer.description = True, "Scoring …"
        try:
            said = [texts[i] for texts in self.answers.values()]
            labels = self.speakers.labels
            logps = {label: self.speakers.logps(label, self.asked[i], said) for label in labels}
            self.scored[i] = preference_table(logps)
        except (OSError, RuntimeError, ValueError) as error:  # no trained model, a damaged one, an answer with EOS
            self.scored[i] = f"<p>Not scored: {escaped(str(error))}</p>"
        finally:
            self.prefer.disabled, self.prefer.description = False, "Who prefers what?"
        self.pages.show()

    def text(self, i: int) -> str:
        """One page for a terminal."""
        lines = [f"draft {i + 1}: {self.source(i)}" if self.checked else self.asked[i]["prompt"][-1]["content"]]
        for label, texts in self.answers.items():
            verdict = f" [{verdict_text(self.verdicts[label][i])}]" if self.checked else ""
            lines.append(f"{label:>6}: {spoken(texts[i])}{verdict}")
        return "\n".join([*lines, *([f"answers {self.label}"] if self.label else [])])


def compare_answers(asked, answers: dict[str, list[str]], speakers=None) -> Comparison:
    """Page through prompts with each model's answer, {label: answers}, side by side, and what the checker says.

    With `speakers` of the same labels, a button scores each answer under each model. Returns the view. In a terminal
    the first page is printed; where no kernel runs it stands.
    """
    comparison = Comparison(asked, answers, speakers)
    show_widget(comparison.view, comparison.text(0), page=comparison.html(0))
    return comparison


class Question:
    """A box for a text of one's own: `box`, the button `ask`, and each model's answer beside the others in `said`.

    speakers, or what has `labels`, `edits` and `answer` like them.
    """

    def __init__(self, speakers, text: str):
        import ipywidgets as widgets

        self.speakers, self.answers = speakers, {}
        wide = widgets.Layout(width="min(100%, 60em)", height="5em")
        self.box = widgets.Textarea(value=text, placeholder="a draft" if speakers.edits else "a question", layout=wide)
        self.ask = widgets.Button(description=f"Ask {', '.join(speakers.labels)}")
        self.ask.layout = widgets.Layout(width="auto", align_self="flex-start")
        self.said = widgets.HTML()
        self.ask.on_click(lambda _: self.answer())
        self.view = widgets.VBox([self.box, self.ask, self.said])

    def answer(self) -> None:
        """Ask one model after the other, so that each has the machine to itself; each word is shown as it comes."""
        text = self.box.value.strip()
        if not text:
            self.said.value = boxed("<p>Write something first.</p>")
            return
        self.answers, self.ask.disabled, whole = {}, True, True
        try:
            for label in self.speakers.labels:
                self.show(text, label, "…")
                try:
                    told = self.speakers.answer(label, text, lambda so_far, label=label: self.show(text, label, so_far))
                except (OSError, RuntimeError, ValueError) as error:  # no trained model, a server that has gone
                    told, whole = f"no answer: {error}", False
                self.show(text, label, told, done=whole)
        finally:
            self.ask.disabled = False

    def text(self) -> str:
        """For a terminal."""
        said = (f"{label:>8}: {spoken(answer)}" for label, answer in self.answers.items())
        return "\n".join([f"asked: {self.box.value}", *said])

    def show(self, text: str, label: str, answer: str, done: bool = False) -> None:
        """What each model has said so far; verdicts and marks of one that is done."""
        self.answers[label] = answer
        whole = {name: said if name == label and not done else spoken(said) for name, said in self.answers.items()}
        cells = {name: escaped(said) for name, said in whole.items()}
        rows = [[cells.get(name, "") for name in self.speakers.labels]]
        if done and label == self.speakers.labels[-1] and self.speakers.edits:
            rows = [[self.judged(text, said) for said in self.answers.values()]]
            rows.append([marked_answer(text, said) for said in self.answers.values()])
        self.said.value = boxed(columns(self.speakers.labels, *rows))

    def judged(self, text: str, answer: str) -> str:
        """What the checker says of an answer, if the text has facts to keep."""
        try:
            return verdict_text(check_answer(answer, text))
        except ValueError:
            return "not checked: the draft says nothing"


def ask_models(speakers, text: str = "") -> Question:
    """A box for a text of one's own that each model answers, word by word, one after the other. Returns the view.

    For the house style the text is a draft to edit. In a terminal a given text is answered at once.
    """
    asked = Question(speakers, text)
    if in_notebook():
        show_widget(asked.view, "A box for a text of your own: run this cell in Jupyter.")
    elif text:
        asked.answer()
        print(asked.text())
    else:
        print('In a terminal: ask_models(speakers, "a text of your own")')
    return asked
