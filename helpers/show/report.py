"""report.html: one page of a run to send on, without network: its result, figures, answers, and how to repeat it."""

import base64
import re
from pathlib import Path

import mistune
import nbformat
from markupsafe import Markup, escape

from helpers.credentials import without_credentials
from helpers.data.schema import SIDES
from helpers.evaluation.methods import METHODS, look
from helpers.evaluation.tables import ROWS, labelled, on_same_pairs, result_cell
from helpers.files import read_json, read_lines, write_text
from helpers.runs.machine import clock
from helpers.show.notebook import as_html, figure_image, spoken
from helpers.show.pages import LOOK
from helpers.show.report_page import STYLE, TEMPLATE
from helpers.show.report_words import command_text, facts, question_text, result_text
from helpers.show.run_plots import plot_monitor, plot_results
from helpers.show.safe_html import has_text, safe_html

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
ANSWERS_SHOWN = 12
CONTENTS = Markup("<!-- contents -->")  # stands for them until the sections are there
OBJECT = re.compile(r"<IPython\.\S+ object>")  # what IPython says of HTML that it cannot say in a text
TOLD = ("method", "source", "model", "seed")  # settings that the report tells elsewhere, or that name folders


def write_report(run_path: Path) -> Path:
    """Write <run>/report.html from results.json, state.json and the executed notebooks; returns its path."""
    results = read_json(run_path / "results.json")
    methods = side_by_side(results)
    groups = on_same_pairs(methods)
    answered = [method for method in methods if any(method in row for row in results.get("generations", []))]
    state = read_json(run_path / "state.json", {})
    done = state.get("done", {})
    settings = {name: result["settings"] for name, result in methods.items() if "settings" in result}
    notebooks = [
        read_notebook(path, done.get(path.stem, {}).get("seconds"))
        for path in sorted((run_path / "notebooks").glob("*.ipynb"))
    ]
    page = TEMPLATE.render(
        name=run_path.name,
        style=Markup(STYLE + LOOK),
        contents=CONTENTS,
        question=question_text(results, methods),
        result=result_text(results),
        command=command_text(results, state),
        facts=facts(results),
        settings=settings,
        setting_names=list(dict.fromkeys(key for each in settings.values() for key in each if key not in TOLD)),
        with_code=lambda text: Markup(as_html(text)),
        spoken=spoken,
        curves=curves(run_path, methods),
        results=results,
        methods=methods,
        tables=tables_of(groups, results.get("baselines")),
        measured=lambda columns, key: any(result.get(key) is not None for result in columns.values()),
        answered=answered,
        shown=ANSWERS_SHOWN,
        looks=METHODS,
        rows=ROWS,
        cell=result_cell,
        services="heldout_services" in results.get("data", {}),
        gain=results.get("orpo_minus_sft"),
        overview=overview(groups[0] if groups else {}, results.get("baselines")),
        notebooks=notebooks,
        clock=clock,
    )
    target = run_path / "report.html"
    write_text(target, with_contents(cleaned(page)))
    return target


def cleaned(page: str) -> str:
    """The page without what looks like a credential: it is made to be sent on. Pictures are left as they are."""
    parts = re.split(r'("data:image/png;base64,[^"]*")', page)
    return "".join(part if number % 2 else without_credentials(part) for number, part in enumerate(parts))


def with_contents(page: str) -> str:
    """The page with a list of its sections, which link to them."""
    sections = re.findall(r'<h2 id="([\w-]+)">(.+?)</h2>', page)
    entries = "".join(f'<li><a href="#{place}">{title}</a></li>' for place, title in sections)
    return page.replace(CONTENTS, f"<ul>{entries}</ul>", 1)


def side_by_side(results: dict) -> dict[str, dict]:
    """{method: its results} to compare. Where notebook 07 ran without 02 and 04, its own SFT and ORPO stand in.

    What a job trained is there once a notebook has measured it.
    """
    stages = results.get("techniques", {}).get("stages", {})
    measured = {name: each for name, each in results.get("methods", {}).items() if "preference_accuracy" in each}
    found = {name: stages[name] for name in ("sft", "orpo") if name in stages} | measured
    return {name: found[name] for name in METHODS if name in found}


def tables_of(groups: list[dict], baselines: dict | None) -> list[tuple[str, dict]]:
    """(heading, {label: result}) of each table of held-out results: a group of methods each, then the baselines."""
    tables = [("Measured on other pairs:" if number else "", labelled(group)) for number, group in enumerate(groups)]
    return tables + ([("Without a language model:", labelled({}, baselines))] if baselines else [])


def overview(methods: dict, baselines: dict | None = None) -> Markup:
    """The figure that sums the run up."""
    if not methods:
        return Markup()
    told = [(row, key) for row, key in ROWS.items() if key[0] in ("answers_right", "preference_accuracy")]
    values = (f"{row}: {each_method(methods, *key)}" for row, key in told)
    return figure_of(
        plot_results(methods, baselines=baselines),
        "What each method reaches, with 95% intervals, and its log-probs",
        f"What each method reaches. {'; '.join(values)}.",
    )


def each_method(methods: dict, key: str, form: str) -> str:
    """A measure of all methods in words."""
    return ", ".join(f"{look(name).label} {result_cell(result, key, form)}" for name, result in methods.items())


def curves(run_path: Path, methods: dict) -> Markup:
    """The validation pairs' log-probs and the loss while each method trained; nothing where none was recorded."""
    records = {name: list(read_lines(run_path / name / "monitor.jsonl")) for name in methods}
    records = {name: lines for name, lines in records.items() if lines}
    if not records:
        return Markup()
    ends = "; ".join(
        f"{look(name).label}: "
        + ", ".join(f"{side} {lines[0][f'{side}_logp']:.2f} to {lines[-1][f'{side}_logp']:.2f}" for side in SIDES)
        for name, lines in records.items()
    )
    losses = {name: read_lines(run_path / name / "log.jsonl") for name in records}
    caption = "Log-probs per token of validation pairs, which are not trained on (chosen solid, rejected dashed), their"
    caption += f" difference, and the training loss. From the first to the last measurement: {ends} nats."
    figure = plot_monitor(records, losses=losses)
    return figure_of(figure, caption, f"Panels of curves over optimizer steps. {ends} nats a token.")


def figure_of(figure, caption: str, alt: str) -> Markup:
    """A figure of matplotlib with its caption."""
    image = inline_image(base64.b64encode(figure_image(figure, alt).data).decode(), alt)
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(image, caption)


def inline_image(data: str, alt: str) -> Markup:
    """A PNG in base64 as an <img> that needs no network."""
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(alt, data)


def read_notebook(path: Path, seconds: float | None) -> dict:
    """The headings, printed lines, figures and errors of an executed notebook, in order."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.validator.NotebookValidationError):  # cut by a full disk, or a copy
        said = preformatted("This file is damaged: what its cells printed is lost.")
        return {"name": path.stem, "seconds": seconds, "parts": [said], "failed": ""}
    parts, failed = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts += [Markup("<h4>{}</h4>").format(title) for title in re.findall(r"^#+ (.+)$", cell.source, re.M)]
            continue
        for output in cell.outputs:
            parts.append(as_markup(output))
            if output.output_type == "error":
                failed = failed or f"{output.ename}: {output.evalue}"
    return {"name": path.stem, "seconds": seconds, "parts": parts, "failed": failed}


def as_markup(output) -> Markup:
    """One output of a cell as HTML: text escaped, images inline."""
    if output.output_type == "stream":
        return preformatted(last_writes(output.text))
    if output.output_type == "error":
        return Markup('<pre class="failed">{}</pre>').format(f"{output.ename}: {output.evalue}")
    data = output.get("data", {})
    if "image/png" in data:
        image = inline_image(data["image/png"], output.metadata.get("image/png", {}).get("alt", "figure"))
        is_widget = "application/vnd.jupyter.widget-view+json" in data  # its numbers move with sliders: both are shown
        return image + preformatted(data.get("text/plain", "")) if is_widget else image
    if "text/html" in data or "text/markdown" in data:
        page = safe_html(data.get("text/html") or MARKDOWN(data["text/markdown"]))
        if has_text(page):
            return Markup('<div class="wide">{}</div>').format(page)
    text = data.get("text/plain", "")
    return Markup() if OBJECT.fullmatch(text) else preformatted(text)


def preformatted(text: str) -> Markup:
    """Escaped text in <pre>; nothing for blank text."""
    return Markup("<pre>{}</pre>").format(escape(text.rstrip())) if text.strip() else Markup()


def last_writes(text: str) -> str:
    """What a terminal would show: a carriage return writes over its line."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
