"""Markdown tables: of any cells, of one run's methods, and of recorded runs."""

import numpy as np

from helpers.data.schema import SIDES
from helpers.evaluation.intervals import interval_text
from helpers.evaluation.methods import BASELINES, METHODS, RULES, look
from helpers.runs.machine import clock
from helpers.runs.recorded import provenance_of_runs, recorded_label

ROWS = {  # label: key among a method's results, format
    "answers accepted, greedy": ("answers_right", ".0%"),
    "answers accepted, sampled": ("sampled_answers_right", ".0%"),
    "facts kept, greedy": ("facts_hold", ".0%"),
    "facts kept, sampled": ("sampled_facts_hold", ".0%"),
    "preference accuracy": ("preference_accuracy", ".0%"),
    "chosen log-prob": ("chosen_logp", ".2f"),
    "rejected log-prob": ("rejected_logp", ".2f"),
    "log-odds difference": ("log_odds_difference", ".2f"),
    "perplexity of chosen": ("perplexity", ".1f"),
    "chrF of answers": ("chrf", ".1f"),
    "pairs trained on": ("pairs", "d"),
    "training seconds": ("train_seconds", ".0f"),
}
COSTS = ("pairs", "train_seconds")  # 0 where nothing was trained


def markdown_table(head: list[str], rows: list[list[str]], aligned: bool = False) -> str:
    """Markdown of a head and rows of cells; `aligned` pads the cells for people who read it in a terminal."""
    if aligned:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        rule = ["-" * width for width in widths]
        padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, rule, *rows])
        return "\n".join(_line(row) for row in padded)
    return "\n".join([_line(head), "|---" * len(head) + "|", *(_line(row) for row in rows)])


def _line(cells: list[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def result_cell(result: dict, key: str, form: str, scale: float = 1) -> str:
    """A value of a method's results, with its interval where one was measured; a dash where there is none."""
    value = result.get(key)
    if value is None or (key in COSTS and not value):
        return "—"
    interval = result.get(f"{key}_ci95")
    return interval_text(value, interval, form, scale) if interval else f"{scale * value:{form}}"


def comparison_table(methods: dict[str, dict], baselines: dict[str, dict] | None = None) -> str:
    """Aligned Markdown of results.json's `methods`, a column each, 95% intervals in brackets; below it `baselines`.

    Measures that none of the methods has are left out. Baselines have few, so that they are a table of their own, and
    so are methods that were measured on other pairs than the first. Recorded methods say when they were recorded.
    """
    tables = []
    for number, group in enumerate(on_same_pairs(methods)):
        columns = {look(name).label: result for name, result in group.items()}
        head = "held out, other pairs" if number else "held out"
        tables.append(markdown_table([head, *columns], _measured_rows(columns, ROWS), aligned=True))
    if baselines:
        named = {BASELINES[name][0]: result for name, result in baselines.items()}
        measures = {label: ROWS[label] for label in ("answers accepted, greedy", "preference accuracy")}
        head, *rows = zip(["without a language model", *named], *_measured_rows(named, measures), strict=True)
        tables.append(markdown_table(list(head), [list(row) for row in rows], aligned=True))
    return "\n\n".join([*tables, *settings_notes(methods), *recorded_notes(*methods.values())])


def recorded_notes(*results: dict) -> list[str]:
    """A line that says when results were recorded, where all of them are from a record."""
    label = recorded_label(*results)
    return [f"*{label}*"] if label else []


def on_same_pairs(methods: dict[str, dict]) -> list[dict[str, dict]]:
    """The methods in groups of those that were measured on the same held-out pairs, in the order of their first."""
    groups = {}
    for name, result in methods.items():
        groups.setdefault(result.get("heldout"), {})[name] = result
    return list(groups.values())


def settings_notes(methods: dict[str, dict]) -> list[str]:
    """A line for each setting of training that is not the same for all methods that have it."""
    trained = {
        name: result["settings"] | {"steps": result["steps"]}
        for name, result in methods.items()
        if "settings" in result
    }
    notes = []
    for setting in sorted({setting for settings in trained.values() for setting in settings} - {"method"}):
        values = {look(name).label: settings[setting] for name, settings in trained.items() if setting in settings}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{label} {value}" for label, value in values.items())
            notes.append(f"Not trained alike: {setting} is {told}.")
    return notes


def _measured_rows(columns: dict[str, dict], measures: dict[str, tuple]) -> list[list[str]]:
    """A row for each measure that any of the columns {label: result} has."""
    return [
        [label, *(result_cell(result, *measure) for result in columns.values())]
        for label, measure in measures.items()
        if any(result.get(measure[0]) is not None for result in columns.values())
    ]


def scoring_table(methods: dict[str, dict]) -> str:
    """Aligned Markdown: preference accuracy of each method by each way to score a pair, with 95% intervals."""
    scored = {look(name).label: result["scoring"] for name, result in methods.items() if "scoring" in result}
    key = "preference_accuracy"
    rows = [[label, *(result_cell(by[rule], key, ".0%") for by in scored.values())] for rule, label in RULES.items()]
    return markdown_table(["preference accuracy by", *scored], rows, aligned=True)


def labelled(methods: dict[str, dict], baselines: dict[str, dict] | None = None) -> dict[str, dict]:
    """{label: result} of methods, then of baselines."""
    named = {look(name).label: result for name, result in methods.items()}
    return named | {BASELINES[name][0]: result for name, result in (baselines or {}).items()}


def difference_table(comparison: dict) -> str:
    """Aligned Markdown of ORPO − SFT (results.json's `orpo_minus_sft`): points with their paired 95% intervals."""
    shares = {label: key for label, (key, form) in ROWS.items() if form.endswith("%") and key in comparison}
    rows = [[label, result_cell(comparison, key, "+.1f", 100)] for label, key in shares.items()]
    table = markdown_table(["held out, points", "ORPO − SFT"], rows, aligned=True)
    return "\n\n".join([table, *recorded_notes(comparison)])


# ── recorded runs ───────────────────────────────────────────────────────────────────────────────────────────

COMPARED_ROWS = ("answers_right", "sampled_answers_right", "facts_hold", "preference_accuracy")
EXPECTED = (*COMPARED_ROWS, "chosen_logp", "rejected_logp")


def expected_table(runs: list[dict], methods: tuple[str, ...] = ("base", "sft", "orpo")) -> str:
    """Aligned Markdown: the lowest and the highest value that recorded runs had, a column for each method."""
    rows = []
    for label, (key, form) in ROWS.items():
        if key in EXPECTED:
            values = [[run["methods"][method][key] for run in runs] for method in methods]
            rows.append([label, *(f"{min(found):{form}} to {max(found):{form}}" for found in values)])
    seeds = ", ".join(str(run["seed"]) for run in runs)
    head = [f"recorded, seeds {seeds}", *(look(method).label for method in methods)]
    return f"{markdown_table(head, rows, aligned=True)}\n\n*{provenance_of_runs(runs)}*"


def runs_table(runs: list[dict]) -> str:
    """Markdown: each seed as it came, its paired ORPO − SFT interval, the mean over seeds, and the provenance."""
    head = ["seed", "method", "accepted, greedy (95%)", "accepted, sampled (95%)", "facts kept, greedy (95%)"]
    head += ["preference accuracy (95%)", "chosen", "rejected", "training"]
    rows = [row for run in runs for row in [*_method_rows(run), _gain_row(run)]]
    return "\n\n".join([markdown_table(head, rows), _summary(runs), f"*{_about(runs)}*"])


def runs_summary(runs: list[dict]) -> str:
    """Markdown: what each model reaches, a value for each seed, and the provenance."""
    methods = ("base", "sft", "orpo")
    seeds = ", ".join(str(run["seed"]) for run in runs)
    head = [f"seeds {seeds}, %", *(METHODS[method].label for method in methods), "ORPO − SFT, paired"]
    labels = {key: label for label, (key, _) in ROWS.items()}
    rows = []
    for key in COMPARED_ROWS[:3]:
        cells = [", ".join(f"{100 * run['methods'][method][key]:.0f}" for run in runs) for method in methods]
        gains = ", ".join(f"{100 * run['orpo_minus_sft'][key]:+.1f}" for run in runs)
        rows.append([labels[key], *cells, gains])
    shown, editor = (
        ", ".join(f"{100 * share:.0f}" for share in shares)
        for shares in (
            [run["data"]["chosen_right"] for run in runs],
            [run["baselines"]["rule_editor"]["answers_right"] for run in runs],
        )
    )
    answers = runs[0]["methods"]["base"]["answers_n"]
    return (
        f"{markdown_table(head, rows)}\n\nOf the chosen answers that both learned from, the checker accepts {shown}%; "
        f"of those of a rule-based editor that knows the checker's word lists, {editor}%.\n\n"
        f"*{provenance_of_runs(runs)}; {answers} held-out drafts of services that are in no training pair.*"
    )


def _method_rows(run: dict) -> list[list[str]]:
    return [
        [
            str(run["seed"]),
            METHODS[method].label,
            *(result_cell(run["methods"][method], key, ".0f", 100) + " %" for key in COMPARED_ROWS),
            *(result_cell(run["methods"][method], f"{side}_logp", ".2f") for side in SIDES),
            clock(seconds) if (seconds := run["methods"][method].get("train_seconds")) else "—",
        ]
        for method in ("base", "sft", "orpo")
    ]


def _gain_row(run: dict) -> list[str]:
    gain, (sft, orpo) = run["orpo_minus_sft"], (run["methods"][method] for method in ("sft", "orpo"))
    shares = [f"**{result_cell(gain, key, '+.1f', 100)}**" for key in COMPARED_ROWS]
    logps = [f"{orpo[f'{side}_logp'] - sft[f'{side}_logp']:+.2f}" for side in SIDES]
    return [str(run["seed"]), "**ORPO − SFT, paired, points**", *shares, *logps, ""]


def _summary(runs: list[dict]) -> str:
    """The mean gain over seeds, and what the runs took."""
    seconds = ", ".join(clock(run["run"]["seconds"]) for run in runs)
    peaks = [part.get("peak_memory_bytes", 0) for run in runs for part in (run["run"], *run["methods"].values())]
    memory = max(peaks) / 2**30  # of the run once a second, and of a method's process at its end
    greedy, sampled = (100 * np.mean([run["orpo_minus_sft"][key] for run in runs]) for key in COMPARED_ROWS[:2])
    return (
        f"Mean gain of ORPO over SFT in accepted answers: {greedy:+.1f} points greedy, {sampled:+.1f} points sampled, "
        f"over {len(runs)} seeds. `make run` took {seconds} (minutes:seconds, after downloads), peak memory "
        f"{memory:.1f} GiB."
    )


def _about(runs: list[dict]) -> str:
    """Where the numbers came from, and what decides the times: layout, precision, and the speed of the machine."""
    first, ways = runs[0], {"rows": "padded rows", "shared": "shared rows"}
    base, sft, orpo = (first["methods"][method] for method in ("base", "sft", "orpo"))
    speeds = (", ".join(f"{run['machine'][name]:.0f}" for run in runs) for name in ("gflops", "bf16_gflops"))
    return (
        f"{provenance_of_runs(runs)}; {base['n']} held-out pairs, {base['answers_n']} answers. "
        f"Log-probs: mean per token, nats. SFT trained in {ways[sft['layout']]}, ORPO in {ways[orpo['layout']]}, "
        f"both in {orpo['precision']}. The machine's matrix products as each run began: "
        "{} GFLOP a second in float32, {} in bf16. ".format(*speeds)
        + f"Base model: {first['model']['from'].partition(',')[0]}."
    )
