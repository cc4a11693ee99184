"""Show figures, answers and live curves in a notebook."""

import html
import io
import re

import matplotlib.pyplot as plt
from IPython.display import HTML, Image, display

from helpers.data.schema import references
from helpers.runs.recorded import provenance
from helpers.show.run_plots import plot_monitor


def show(figure, alt: str) -> None:
    """Show a matplotlib figure with a text for those who can't see it, and close it."""
    display(figure_image(figure, alt))


def figure_image(figure, alt: str) -> Image:
    """The figure as a PNG that carries its alt text into the notebook's output metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return Image(buffer.getvalue(), format="png", alt=alt)


def show_answers(dataset, answers: dict[str, list[str]]) -> None:
    """Question, right answer and what each model said, side by side."""
    head = "".join(
        f"<th style='text-align:left'>{html.escape(name)}</th>" for name in ("question", "documentation", *answers)
    )
    rows = []
    for i, (prompt, reference) in enumerate(zip(dataset["prompt"], references(dataset), strict=True)):
        cells = [prompt[-1]["content"], reference, *(said[i] or "(nothing)" for said in answers.values())]
        rows.append("".join(f"<td style='text-align:left;vertical-align:top'>{as_html(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    display(HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"))


def as_html(text: str) -> str:
    """Escaped text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def draw_monitor(method: str, **others):
    """For LiveMonitor: records of `method` → figure, beside the finished stages given by name (sft=stage)."""

    def draw(records: list[dict]) -> Image:
        recorded = {name: stage.read_monitor() for name, stage in others.items()} | {method: records}
        return figure_image(
            plot_monitor(recorded, faint=tuple(others)),
            "Log-probs of chosen and rejected answers of the validation pairs while training",
        )

    return draw


def run_stamp(run) -> str:
    """From which run, machine and date a figure came."""
    return provenance(f"run {run.path.name}", [run.results])
