"""Markdown tables: of any cells, of one run's methods, and of recorded runs."""

import numpy as np

from helpers.data.schema import SIDES
from helpers.evaluation.intervals import interval_text
from helpers.evaluation.methods import BASELINES, METHODS, RULES, look
from helpers.runs.machine import clock
from helpers.runs.recorded import provenance_of_runs

ROWS = {  # label: key among a method's results, format
    "preference accuracy": ("preference_accuracy", ".0%"),
    "chosen log-prob": ("chosen_logp", ".2f"),
    "rejected log-prob": ("rejected_logp", ".2f"),
    "log odds ratio": ("log_odds_ratio", ".2f"),
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

    Baselines have an accuracy and nothing else, so they are a table of their own, which keeps both narrow.
    """
    columns = {look(name).label: result for name, result in methods.items()}
    rows = [[label, *(result_cell(result, *row) for result in columns.values())] for label, row in ROWS.items()]
    tables = [markdown_table(["held out", *columns], rows, aligned=True)]
    if baselines:
        label = "preference accuracy"
        rows = [[BASELINES[name][0], result_cell(result, *ROWS[label])] for name, result in baselines.items()]
        tables.append(markdown_table(["without a language model", label], rows, aligned=True))
    return "\n\n".join([*tables, *settings_notes(methods)])


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


# ── recorded runs ───────────────────────────────────────────────────────────────────────────────────────────


def runs_table(runs: list[dict]) -> str:
    """Markdown: each seed as it came, its paired ORPO − SFT interval, the mean over seeds, and the provenance."""
    head = ["seed", "method", "preference accuracy (95%)", "chosen", "rejected", "chrF (95%)", "training"]
    rows = [row for run in runs for row in [*_method_rows(run), _gain_row(run)]]
    return "\n\n".join([markdown_table(head, rows), _summary(runs), f"*{_about(runs)}*"])


def runs_summary(runs: list[dict]) -> str:
    """Markdown: what each model reaches, a value for each seed, and the provenance."""
    methods = ("base", "sft", "orpo")
    seeds = ", ".join(str(run["seed"]) for run in runs)
    head = [f"seeds {seeds}", *(METHODS[method].label for method in methods), "ORPO − SFT, paired"]
    rows = []
    for label, key, form, scale in (
        ("preference accuracy, %", "preference_accuracy", ".0f", 100),
        ("chrF", "chrf", ".1f", 1),
    ):
        cells = [", ".join(f"{scale * run['methods'][method][key]:{form}}" for run in runs) for method in methods]
        gains = ", ".join(f"{scale * run['orpo_minus_sft'][key]:+.1f}" for run in runs)
        rows.append([label, *cells, gains])
    pairs = runs[0]["methods"]["base"]["n"]
    return f"{markdown_table(head, rows)}\n\n*{provenance_of_runs(runs)}; {pairs} held-out pairs.*"


def _method_rows(run: dict) -> list[list[str]]:
    return [
        [
            str(run["seed"]),
            METHODS[method].label,
            result_cell(run["methods"][method], "preference_accuracy", ".0f", 100) + " %",
            *(result_cell(run["methods"][method], f"{side}_logp", ".2f") for side in SIDES),
            result_cell(run["methods"][method], "chrf", ".1f"),
            clock(seconds) if (seconds := run["methods"][method].get("train_seconds")) else "—",
        ]
        for method in ("base", "sft", "orpo")
    ]


def _gain_row(run: dict) -> list[str]:
    gain, (sft, orpo) = run["orpo_minus_sft"], (run["methods"][method] for method in ("sft", "orpo"))
    accuracy = result_cell(gain, "preference_accuracy", "+.1f", 100)
    logps = [f"{orpo[f'{side}_logp'] - sft[f'{side}_logp']:+.2f}" for side in SIDES]
    chrf = result_cell(gain, "chrf", "+.1f")
    return [str(run["seed"]), "**ORPO − SFT, paired**", f"**{accuracy} points**", *logps, chrf, ""]


def _summary(runs: list[dict]) -> str:
    """The mean gain over seeds, and what the runs took."""
    seconds = ", ".join(clock(run["run"]["seconds"]) for run in runs)
    peaks = [part.get("peak_memory_bytes", 0) for run in runs for part in (run["run"], *run["methods"].values())]
    memory = max(peaks) / 2**30  # of the run once a second, and of a method's process at its end
    gains = [100 * run["orpo_minus_sft"]["preference_accuracy"] for run in runs]
    return (
        f"Mean gain of ORPO over SFT: {np.mean(gains):+.1f} points over {len(runs)} seeds. "
        f"`make run` took {seconds} (minutes:seconds, after downloads), peak memory {memory:.1f} GiB."
    )


def _about(runs: list[dict]) -> str:
    """Where the numbers came from, and what decides the times: layout, precision, and the speed of the machine."""
    first, ways = runs[0], {"rows": "padded rows", "shared": "shared rows"}
    base, sft, orpo = (first["methods"][method] for method in ("base", "sft", "orpo"))
    speeds = (", ".join(f"{run['machine'][name]:.0f}" for run in runs) for name in ("gflops", "bf16_gflops"))
    return (
        f"{provenance_of_runs(runs)}; {base['n']} held-out pairs, {base['chrf_n']} answers for chrF. "
        f"Log-probs: mean per token, nats. SFT trained in {ways[sft['layout']]}, ORPO in {ways[orpo['layout']]}, "
        f"both in {orpo['precision']}. The machine's matrix products as each run began: "
        "{} GFLOP a second in float32, {} in bf16. ".format(*speeds)
        + f"Base model: {first['model']['from'].partition(',')[0]}."
    )
