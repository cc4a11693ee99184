"""report.html: one page of a run that reads without network: numbers, figures, answers, and what each cell printed."""

import base64
import re
from pathlib import Path

import mistune
import nbformat
from jinja2 import Environment
from markupsafe import Markup, escape

from helpers.evaluation.methods import METHODS
from helpers.evaluation.tables import ROWS, labelled, on_same_pairs, result_cell
from helpers.files import read_json, write_text
from helpers.runs.machine import clock
from helpers.show.notebook import figure_image
from helpers.show.run_plots import plot_results

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
ANSWERS_SHOWN = 12
TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }} · ORPO workshop</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; margin: .8rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
.answers table { table-layout: fixed; min-width: 46rem; } .answers td { overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .6rem .8rem; overflow-x: auto; font-size: 13px; white-space: pre-wrap; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
summary { cursor: pointer; font-weight: 600; padding: .4rem 0; } .note { opacity: .8; font-size: 14px; }
.failed { border-left: 4px solid #D55E00; }
</style></head><body>
<h1>Run {{ name }}</h1>
<p>Profile <b>{{ results.profile }}</b>, seed {{ results.seed }}, {{ results.date[:16] | replace("T", " ") }} UTC.
{{ results.machine.cpu }}, {{ results.machine.cores }} cores,
{{ "%.0f" | format(results.machine.memory / 2**30) }} GiB, accelerator: {{ results.machine.accelerator }}.
{% if results.run %}{{ results.run.status | capitalize }}; the notebooks took {{ clock(results.run.seconds) }},
peak memory {{ "%.1f" | format(results.run.peak_memory_bytes / 2**30) }} GiB.{% endif %}</p>
{% if methods %}
<h2>Held out</h2>
{% for columns in tables %}{% if not loop.first %}<p>Measured on other pairs:</p>{% endif %}
<div class="wide"><table><thead><tr><th></th>
{% for label in columns %}<th>{{ label }}</th>{% endfor %}</tr></thead>
<tbody>{% for label, row in rows.items() %}{% if measured(columns, row[0]) %}<tr><th>{{ label }}</th>
{% for result in columns.values() %}<td>{{ cell(result, *row) }}</td>{% endfor %}</tr>{% endif %}{% endfor %}
</tbody></table></div>{% endfor %}
{% if gain %}<p>ORPO − SFT, paired:
{% if "answers_right" in gain %}answers accepted <b>{{ cell(gain, "answers_right", "+.1f", 100) }} points</b> greedy,
<b>{{ cell(gain, "sampled_answers_right", "+.1f", 100) }} points</b> sampled;
{% endif %}preference accuracy <b>{{ cell(gain, "preference_accuracy", "+.1f", 100) }} points</b>.</p>{% endif %}
<p class="note">Intervals: 95% bootstrap over {{ "services" if services else "pairs" }}.
{{ methods.values() | map(attribute="n") | first }} held-out pairs{% if services %}, from services never trained on
{%- endif %}. Log-probs are means per token, in nats.
{% if "dpo" in methods %}Pairs and seconds of DPO and RLHF are those of their last stage.{% endif %}</p>
{% if results.profile == "smoke" %}<p class="note"><b>Smoke profile:</b> a toy model of random weights; these numbers
only show that everything runs.</p>{% endif %}
{{ overview }}
{% endif %}
{% if results.generations %}
<h2>Before and after</h2>
{% if results.generations[0].accepted %}<p class="note">✓ accepted by the checker, ✗ not.</p>{% endif %}
<div class="wide answers"><table><thead><tr><th>question</th><th>documentation</th>
{% for method in answered %}<th>{{ looks[method].label }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in results.generations[:shown] %}<tr><td>{{ row.prompt }}</td><td>{{ row.reference }}</td>
{% for method in answered %}<td>
{%- if row.accepted %}{{ "✓" if row.accepted[method] else "✗" }} {% endif %}{{ row[method] or "(nothing)" }}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table></div>
{% endif %}
<h2>Notebooks</h2>
{% for notebook in notebooks %}
<details {{ "open" if notebook.failed }}><summary>{{ notebook.name }}{% if notebook.seconds %}
 · {{ clock(notebook.seconds) }}{% endif %}{% if notebook.failed %} · failed{% endif %}</summary>
{% for part in notebook.parts %}{{ part }}{% endfor %}</details>
{% endfor %}
<h2>Versions</h2><pre>{% for package, version in results.versions.items() %}{{ package }} {{ version }}
{% endfor %}</pre>
</body></html>
""")


def write_report(run_path: Path) -> Path:
    """Write <run>/report.html from results.json, state.json and the executed notebooks; returns its path."""
    results = read_json(run_path / "results.json")
    methods = side_by_side(results)
    groups = on_same_pairs(methods)
    answered = [method for method in methods if any(method in row for row in results.get("generations", []))]
    done = read_json(run_path / "state.json", {}).get("done", {})
    notebooks = [
        read_notebook(path, done.get(path.stem, {}).get("seconds"))
        for path in sorted((run_path / "notebooks").glob("*.ipynb"))
    ]
    page = TEMPLATE.render(
        name=run_path.name,
        results=results,
        methods=methods,
        tables=[labelled(group, {} if number else results.get("baselines")) for number, group in enumerate(groups)],
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
    write_text(target, page)
    return target


def side_by_side(results: dict) -> dict[str, dict]:
    """{method: its results} to compare. Where notebook 07 ran without 02 and 04, its own SFT and ORPO stand in."""
    stages = results.get("techniques", {}).get("stages", {})
    found = {name: stages[name] for name in ("sft", "orpo") if name in stages} | results.get("methods", {})
    return {name: found[name] for name in METHODS if name in found}


def overview(methods: dict, baselines: dict | None = None) -> Markup:
    """The figure that sums the run up."""
    image = figure_image(plot_results(methods, baselines=baselines), "") if methods else None
    alt = "Preference accuracy with intervals and log-probs of chosen and rejected answers, by method"
    return inline_image(base64.b64encode(image.data).decode(), alt) if image else Markup()


def inline_image(data: str, alt: str) -> Markup:
    """A PNG in base64 as an <img> that needs no network."""
    return Markup('<p><img alt="{}" src="data:image/png;base64,{}"></p>').format(alt, data)


def read_notebook(path: Path, seconds: float | None) -> dict:
    """The headings, printed lines, figures and errors of an executed notebook, in order."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.validator.NotebookValidationError):  # cut by a full disk, or a copy
        said = preformatted("This file is damaged: what its cells printed is lost.")
        return {"name": path.stem, "seconds": seconds, "parts": [said], "failed": False}
    parts, failed = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts += [Markup("<h4>{}</h4>").format(title) for title in re.findall(r"^#+ (.+)$", cell.source, re.M)]
            continue
        for output in cell.outputs:
            parts.append(as_markup(output))
            failed = failed or output.output_type == "error"
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
        return table_only(data.get("text/html") or MARKDOWN(data["text/markdown"]))
    return preformatted(data.get("text/plain", ""))


def table_only(page: str) -> Markup:
    """HTML of nothing but tables and text; anything else might load or run something and is left out."""
    foreign = re.search(r"<(?!/?(table|thead|tbody|tr|th|td|code|p|em|strong)\b)|<[^>]*(\son\w+\s*=|url\()", page)
    return Markup() if foreign else Markup('<div class="wide">{}</div>').format(Markup(page))


def preformatted(text: str) -> Markup:
    """Escaped text in <pre>; nothing for blank text."""
    return Markup("<pre>{}</pre>").format(escape(text.rstrip())) if text.strip() else Markup()


def last_writes(text: str) -> str:
    """What a terminal would show: a carriage return writes over its line."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
