"""Markdown of what was recorded about the lesson beside the runs: controls, real documentation, examples."""

from helpers.evaluation.intervals import seeds_text
from helpers.evaluation.methods import METHODS
from helpers.evaluation.tables import markdown_table, result_cell
from helpers.runs.recorded import provenance, read_recorded, with_seeds
from helpers.techniques.budgets import LABELS
from helpers.techniques.results import provenance_of
from helpers.techniques.tables import BOUGHT
from scripts.recording import dated

COMMAND = "python -m scripts.record_controls"
MEASURES = {  # key: head of a column
    "answers_right": "accepted, greedy",
    "sampled_answers_right": "accepted, sampled",
    "facts_hold": "facts kept, greedy",
    "sampled_facts_hold": "facts kept, sampled",
}
WORDING = {"word_for_word": "AWS's own words, greedy", "sampled_word_for_word": "AWS's own words, sampled"}
WAYS = {
    "base": "base",
    "few_shot": "base, rules and an example in its prompt",
    "sft": "SFT on all chosen answers",
    "sft_twice": "SFT, twice the steps",
    "sft_accepted": "SFT on the accepted chosen answers alone",
    "orpo": "ORPO",
    "ratio": "ORPO with the log-prob ratio in place of the odds ratio",
    "word_editor": "editor by learned words: no language model, no list of the checker's",
    "rule_editor": "editor by rule: no language model, knows the checker's lists",
}
EXAMPLES = 5


def recorded_controls() -> list[dict]:
    """The recorded controls, by seed."""
    return read_recorded("controls-seed*.json", "controls", f"{COMMAND} runs/latest")


def with_part(controls: list[dict], part: str, *names: str) -> list[dict]:
    """The records that have this part, with all of these measurements."""
    return [record for record in controls if part in record and set(names) <= set(record[part])]


def about(controls: list[dict], *parts: str) -> str:
    """Where the measurements in these parts of records came from: command, seeds, machines and days."""
    entries = [entry for record in controls for entry in dated(record, *parts)]
    return provenance(with_seeds(COMMAND, controls), entries)


def shares(result: dict, measures=MEASURES) -> list[str]:
    """A cell for each of the measures, in %, with its 95% interval."""
    return [result_cell(result, key, ".0f", 100) for key in measures]


def controls_table(runs: list[dict], controls: list[dict]) -> str:
    """Markdown: every way to use the same pairs, the values of the seeds that measured it, and the provenance."""
    measured = {run["seed"]: run["methods"] | run["baselines"] for run in runs}
    for record in controls:
        found = measured.setdefault(record["seed"], {})
        for part in ("controls", "wording"):
            for way, result in record.get(part, {}).items():
                found[way] = result | found.get(way, {})  # where both measured, the recorded run counts
    every = [result for results in measured.values() for result in results.values()]
    wording = {key: head for key, head in WORDING.items() if any(key in result for result in every)}
    columns, rows = MEASURES | wording, []
    for way, label in WAYS.items():
        found = [results[way] for _, results in sorted(measured.items()) if way in results]
        if found:
            rows.append([label, *(_values(found, key) for key in columns)])
    drafts = runs[0]["methods"]["base"]["answers_n"]
    told = about(with_part(controls, "controls"), "controls", "wording")
    note = f"*{told}, and the recorded runs; {drafts} held-out drafts; one value a seed, %.*"
    return f"{markdown_table(['trained or written by', *columns.values()], rows)}\n\n{note}"


def _values(results: list[dict], key: str) -> str:
    """A value for each seed; a dash where none measured it."""
    found = [f"{100 * result[key]:.0f}" if key in result else "—" for result in results]
    return ", ".join(found) if set(found) != {"—"} else "—"


def documentation_table(controls: list[dict]) -> str:
    """Markdown: the first recorded seed's models on real summaries, with 95% intervals."""
    record = with_part(controls, "documentation", "base", "sft", "orpo")[0]
    found = record["documentation"]
    rows = [[label, *shares(found[name])] for name, label in WAYS.items() if name in found]
    note = f"*{about([record], 'documentation')}; {found['sft']['answers_n']} summaries; % (95%).*"
    return f"{markdown_table(['edited by', *MEASURES.values()], rows)}\n\n{note}"


def examples_table(run: dict) -> str:
    """Markdown: the first held-out drafts, what each model made of them, and whether the checker accepts it."""
    rows = []
    for row in run["generations"][:EXAMPLES]:
        draft = row["prompt"].partition("\n")[2]
        said = [f"{'✓' if row['accepted'][method] else '✗'} {row[method]}" for method in ("base", "sft", "orpo")]
        rows.append([text.replace("|", "\\|").replace("\n", " ") for text in (draft, *said)])
    head = ["draft", *(METHODS[method].label for method in ("base", "sft", "orpo"))]
    told = provenance(f"profile {run['profile']}, seed {run['seed']}", [run])
    note = f"*The first {EXAMPLES} held-out drafts, greedy answers; ✓: the checker accepts it. {told}.*"
    return f"{markdown_table(head, rows)}\n\n{note}"


def pairs_table(records: list[dict]) -> str:
    """Markdown: preference accuracy after fewer and after more pairs, from the recorded comparison of techniques."""
    rows = []
    for technique in ("sft", "orpo"):
        for by_seconds in (False, True):
            values = []
            for label in ("pairs seen, all stages", "preference accuracy, %"):
                value, form, scale = BOUGHT[label]
                values.append(seeds_text([value(record, technique, by_seconds) for record in records], form, scale))
            rows.append([LABELS[technique], *values])
    note = f"*{provenance_of(records)}; {records[0]['heldout_pairs']} held-out pairs of the second domain, aws-api.*"
    return f"{markdown_table(['trained by', 'pairs seen', 'preference accuracy, %'], rows)}\n\n{note}"
