"""report.html as a template: its style on screen (light and dark) and on paper, and its sections in order."""

from jinja2 import Environment

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --link: #7db8f5; }
  img { filter: invert(.94) hue-rotate(180deg) brightness(1.3); } } /* light on dark; the hues stay */
body { font: 16px/1.55 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
a { color: var(--link); } nav ul { columns: 2; padding-left: 1.2rem; max-width: 40rem; }
.result { border-left: 4px solid #0072B2; background: var(--soft); padding: .8rem 1rem; font-size: 1.1em; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; margin: .8rem 0; }
.fit table { width: auto; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
.answers table { table-layout: fixed; min-width: 46rem; }
.answers td { overflow-wrap: anywhere; white-space: pre-line; }
pre, code { background: var(--soft); font-size: .85em; border-radius: 3px; overflow-wrap: anywhere; }
pre { padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; } code { padding: 0 .25em; }
figure { margin: 1rem 0; } figcaption { font-size: 14px; margin-top: .4rem; }
img { max-width: 100%; height: auto; background: white; border-radius: 6px; padding: 8px; box-sizing: border-box; }
summary { cursor: pointer; font-weight: 600; padding: .4rem 0; } .note { opacity: .85; font-size: 14px; }
.failed { border-left: 4px solid #D55E00; padding-left: .8rem; } .paper { display: none; }
@page { size: A4; margin: 14mm; }
@media print {
  :root { color-scheme: light; --line: #bbb; --soft: #f1f1f1; --link: black; }
  body { font-size: 10pt; line-height: 1.4; max-width: none; margin: 0; padding: 0; color: black; background: white; }
  h2 { margin-top: 1.4rem; } h2, h3 { break-after: avoid; }
  img { filter: none; }
  tr, img, figure, pre, .result { break-inside: avoid; } thead { display: table-header-group; }
  th, td { padding: .2rem .4rem; } .wide { overflow: visible; } .answers table { min-width: 0; font-size: 8.5pt; }
  figcaption, .note { font-size: 9pt; } .screen { display: none; } .paper { display: block; }
}
"""
TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }} · ORPO workshop</title>
<style>{{ style }}</style></head><body>
<h1>Run {{ name }}</h1>
<p>{{ results.date[:16] | replace("T", " ") }} UTC, profile <b>{{ results.profile }}</b>, seed {{ results.seed }}.
{% if results.run %}{{ results.run.status | capitalize }}; the notebooks took {{ clock(results.run.seconds) }}.
{% if results.run.seconds_left %}About {{ clock(results.run.seconds_left) }} are left: <code>make run</code> goes on.
{% endif %}{% endif %}</p>
{% for notebook in notebooks if notebook.failed %}<p class="failed"><b>Notebook {{ notebook.name }} failed:</b>
{{ notebook.failed }}. What follows is what the run measured before.</p>{% endfor %}
<nav aria-label="Contents">{{ contents }}</nav>
{% if methods %}
<h2 id="question">The question</h2>
<p>{{ question }}</p>
<h2 id="result">The result</h2>
<p class="result">{{ result }}</p>
{% if results.profile == "smoke" %}<p class="note"><b>Smoke profile:</b> a toy model of random weights; these numbers
only show that everything runs.</p>{% endif %}
<h2 id="held-out">Held out</h2>
{% for heading, columns in tables %}{% if heading %}<p>{{ heading }}</p>{% endif %}
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
{{ overview }}
{% endif %}
{% if curves %}
<h2 id="training">Training</h2>
{{ curves }}
{% endif %}
{% if results.generations %}
<h2 id="answers">Before and after</h2>
<p class="note">The first {{ [shown, results.generations | length] | min }} of {{ results.generations | length }}
held-out prompts{% if results.generations[0].accepted %}; ✓ accepted by the checker, ✗ not{% endif %}.</p>
<div class="wide answers"><table><thead><tr><th>question</th>
<th>{{ "better revision" if results.generations[0].accepted else "documentation" }}</th>
{% for method in answered %}<th>{{ looks[method].label }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in results.generations[:shown] %}<tr><td>{{ with_code(row.prompt) }}</td>
<td>{{ with_code(row.reference) }}</td>
{% for method in answered %}<td>
{%- if row.accepted %}{{ "✓" if row.accepted[method] else "✗" }} {% endif %}
{{- with_code(spoken(row[method])) }}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table></div>
{% endif %}
<h2 id="repeat">What was run, and how to repeat it</h2>
<p>In a clone of the workshop:</p><pre>{{ command }}</pre>
<div class="wide fit"><table><tbody>
{% for label, value in facts.items() %}<tr><th>{{ label }}</th><td>{{ value }}</td></tr>{% endfor %}
</tbody></table></div>
{% if settings %}<div class="wide fit"><table><thead><tr><th>trained with</th>
{% for method in settings %}<th>{{ looks[method].label }}</th>{% endfor %}</tr></thead>
<tbody>{% for key in setting_names %}<tr><th>{{ key | replace("_", " ") }}</th>
{% for chosen in settings.values() %}<td>{{ chosen.get(key, "—") }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>{% endif %}
<p class="paper note">What each notebook printed is in the page as shown on a screen; it is left out on paper.</p>
<div class="screen"><h2 id="notebooks">Notebooks</h2>
{% for notebook in notebooks %}
<details {{ "open" if notebook.failed }}><summary>{{ notebook.name }}{% if notebook.seconds %}
 · {{ clock(notebook.seconds) }}{% endif %}{% if notebook.failed %} · failed{% endif %}</summary>
{% for part in notebook.parts %}{{ part }}{% endfor %}</details>
{% endfor %}</div>
</body></html>
""")
