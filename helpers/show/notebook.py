"""Show figures, answers, widgets and live curves in a notebook; in a terminal, text."""

import html
import io
import re
from base64 import b64encode

import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.display import HTML, Image, display

from helpers.data.schema import references
from helpers.evaluation.checked import can_check, verdicts
from helpers.runs.recorded import provenance
from helpers.show.live_figure import LiveFigure
from helpers.show.monitor_panels import monitor_panels
from helpers.show.pages import sized
from helpers.show.run_plots import plot_monitor
from helpers.show.style import DPI, enlarged, is_big

PAGE_WIDE = "table-layout:fixed;width:100%;max-width:60em;margin:0 0 1em 0"  # columns of like width, text wrapped
CELL = "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere"


def in_notebook() -> bool:
    """True inside a Jupyter kernel, where figures can be shown and updated in place."""
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def show(figure, alt: str) -> None:
    """Show a matplotlib figure with a text for those who can't see it, and close it."""
    display(figure_image(figure, alt))


def figure_image(figure, alt: str) -> Image:
    """The figure as a PNG that carries its alt text into the notebook's output metadata."""
    buffer = io.BytesIO()
    (enlarged(figure) if is_big() else figure).savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    return Image(buffer.getvalue(), format="png", alt=alt)


def show_table(table: str) -> None:
    """Show Markdown as a table that fits its page; where no page is, in a terminal or a log, as the text it is."""
    display({"text/markdown": table, "text/plain": table}, raw=True)


def show_answers(dataset, answers: dict[str, list[str]]) -> None:
    """Each question with the right answer, and below it what each model said, side by side.

    A block for each question, so that three answers fit a projected page of 700 pixels without scrolling sideways.
    Where the checker can judge answers, ✓ and ✗ say what it says.
    """
    blocks, checked = [], can_check(dataset)
    judged = {name: verdicts(texts[: len(dataset)], dataset) if checked else None for name, texts in answers.items()}
    for i, (prompt, reference) in enumerate(zip(dataset["prompt"], references(dataset), strict=True)):
        told = "the better revision" if checked else "documentation"
        asked = f"<b>{as_html(prompt[-1]['content'])}</b><br>{told}: {as_html(reference)}"
        head = "".join(f"<th style='{CELL}'>{html.escape(name)}</th>" for name in answers)
        marks = {name: ("✓ " if found[i].accepted else "✗ ") if found else "" for name, found in judged.items()}
        texts = {name: as_html(marks[name] + spoken(texts[i])) for name, texts in answers.items()}
        said = "".join(f"<td style='{CELL}'>{text}</td>" for text in texts.values())
        asked = f"<tr><td colspan='{len(answers)}' style='{CELL}'>{asked}</td></tr>"
        blocks.append(f"<table style='{PAGE_WIDE}'>{asked}<tr>{head}</tr><tr>{said}</tr></table>")
    display(HTML("".join(blocks)))


def spoken(answer: str) -> str:
    """An answer to show: one that stops in the middle of a sentence, as where its tokens ran out, ends with "…"."""
    if not answer:
        return "(nothing)"
    return answer if answer.rstrip("`*\"')”").endswith((".", "!", "?", ":", "…")) else f"{answer} …"


def as_html(text: str) -> str:
    """Escaped text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def draw_monitor(stage, *others) -> "MonitorFigure":
    """For LiveMonitor: the figure of a stage's training, paler beside it what `others` recorded, itself left out."""
    return MonitorFigure(stage, others)


class MonitorFigure:
    """The figure of one training: it moves while the model trains, and a picture is kept. Called, it is the picture."""

    ALT = "Log-probs of chosen and rejected answers of the validation pairs while training, and the training loss"

    def __init__(self, stage, others: tuple = ()):
        self.stage, self.others = stage, others
        self.begin()

    def begin(self) -> None:
        """A figure of its own for a training that begins: what the others have by now, read once."""
        found = {other.name: other.read_monitor() for other in self.others if other.name != self.stage.name}
        self.beside = {name: lines for name, lines in found.items() if lines}
        self.losses = {other.name: other.read_log() for other in self.others}
        self.figure = LiveFigure(self.ALT)

    def __call__(self, records: list[dict], log: list[dict] | None = None) -> Image:
        drawn = self._drawn(records, self.stage.read_log() if log is None else log)
        return figure_image(plot_monitor(*drawn), self.ALT)

    def move(self, records: list[dict], log: list[dict]) -> None:
        """Show the measurements and the lines of the log so far."""
        self.figure.move(monitor_panels(*self._drawn(records, log)))

    def keep(self, records: list[dict], log: list[dict]) -> None:
        """Show the same as a picture, at the end."""
        self.figure.keep(self(records, log))

    def _drawn(self, records: list[dict], log: list[dict]) -> tuple[dict, tuple, dict]:
        name = self.stage.name
        return self.beside | {name: records}, tuple(self.beside), self.losses | {name: log}


def run_stamp(run) -> str:
    """From which run, machine and date a figure came."""
    return provenance(f"run {run.path.name}", [run.results])


def validation_text(record: dict) -> str:
    """One measurement in words."""
    logps = f"chosen {record['chosen_logp']:.2f}, rejected {record['rejected_logp']:.2f}"
    return f"validation: {logps}, accuracy {record['preference_accuracy']:.0%}"


def show_widget(view, said: str, picture: bytes | None = None, alt: str = "", page: str = "") -> None:
    """Show a widget; where no kernel runs a PNG or a page of HTML stands, if given, and in a terminal what is said."""
    if not in_notebook():
        print(said)
        return
    bundle, notes = sized(view)._repr_mimebundle_() | {"text/plain": said}, {}
    if page:
        bundle |= {"text/html": page}
    if picture:
        bundle |= {"image/png": b64encode(picture).decode()}
        notes = {"image/png": {"alt": alt}}
    display(bundle, metadata=notes, raw=True)
