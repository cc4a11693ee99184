"""Recorded runs (docs/results/): the mean over seeds, and each seed as it came."""

import json

import numpy as np

from helpers.files import REPOSITORY
from helpers.runs.machine import clock, machine_text


def recorded(profile: str) -> list[dict]:
    """The recorded runs of a profile, by seed; a FileNotFoundError says how to record one."""
    paths = sorted((REPOSITORY / "docs" / "results").glob(f"{profile}-seed*.json"))
    if not paths:
        raise FileNotFoundError(
            f"no recorded run of {profile}: make run, then python scripts/record_results.py runs/latest"
        )
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def provenance(runs: list[dict]) -> str:
    """From which profile, seeds, machine and date these numbers came."""
    first, days = runs[0], sorted({run["date"][:10] for run in runs})
    seeds = ", ".join(str(run["seed"]) for run in runs)
    pythons = " and ".join(sorted({run["machine"]["python"].rsplit(".", 1)[0] for run in runs}))
    machine = f"{machine_text(first['machine'])}, Python {pythons}"
    return f"profile {first['profile']}, seeds {seeds} · {machine} · {' to '.join(days)}"


def table(runs: list[dict]) -> str:
    """Markdown: each seed as it came, its paired ORPO − SFT interval, and the mean over seeds."""
    head = "| seed | method | preference accuracy (95%) | chosen | rejected | chrF (95%) | training |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for run in runs:
        for method, name in (("base", "base"), ("sft", "SFT"), ("orpo", "ORPO")):
            lines.append(f"| {run['seed']} | {name} | {_cells(run['methods'][method])} |")
        gain = run["orpo_minus_sft"]
        accuracy, chrf = (_interval(gain, name, "+.1f") for name in ("preference_accuracy", "chrf"))
        sft, orpo = run["methods"]["sft"], run["methods"]["orpo"]
        logps = " | ".join(f"{orpo[side] - sft[side]:+.2f}" for side in ("chosen_logp", "rejected_logp"))
        lines.append(f"| {run['seed']} | **ORPO − SFT, paired** | **{accuracy} points** | {logps} | {chrf} | |")
    seconds = ", ".join(clock(run["run"]["seconds"]) for run in runs)
    peaks = [part.get("peak_memory_bytes", 0) for run in runs for part in (run["run"], *run["methods"].values())]
    memory = max(peaks) / 2**30  # of the run once a second, and of a method's process at its end
    gains = [100 * run["orpo_minus_sft"]["preference_accuracy"] for run in runs]
    lines += [
        "",
        f"Mean gain of ORPO over SFT: {np.mean(gains):+.1f} points over {len(runs)} seeds. "
        f"`make run` took {seconds} (minutes:seconds, after downloads), peak memory {memory:.1f} GiB.",
        "",
        f"*{provenance(runs)}; {runs[0]['methods']['base']['n']} held-out pairs, "
        f"{runs[0]['methods']['base']['chrf_n']} answers for chrF. Log-probs: mean per token, nats. "
        f"{trained(runs[0])}. {speed(runs)}. Base model: {runs[0]['model']['from'].partition(',')[0]}.*",
    ]
    return "\n".join(lines)


def summary(runs: list[dict]) -> str:
    """Markdown: what each model reaches, each seed as it came."""
    models = {"base": "base", "sft": "SFT", "orpo": "ORPO"}
    of_models = [[run["methods"][method] for run in runs] for method in models]
    gains = [run["orpo_minus_sft"] for run in runs]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    rows = (("preference accuracy, %", "preference_accuracy", 100, ".0f"), ("chrF of the answers", "chrf", 1, ".1f"))
    lines = [f"| seeds {seeds} | {' | '.join(models.values())} | ORPO − SFT, paired |", "|---|---|---|---|---|"]
    for label, name, scale, form in rows:
        cells = [", ".join(f"{scale * result[name]:{form}}" for result in results) for results in of_models]
        gain = ", ".join(f"{scale * result[name]:+.1f}" for result in gains)
        lines.append(f"| {label} | {' | '.join(cells)} | {gain} |")
    return "\n".join([*lines, "", f"*{provenance(runs)}; {of_models[0][0]['n']} held-out pairs.*"])


def trained(run: dict) -> str:
    """How the two were trained, since layout and precision decide the time that they took."""
    ways = {"rows": "padded rows", "shared": "shared rows"}
    sft, orpo = (run["methods"][method] for method in ("sft", "orpo"))
    return f"SFT trained in {ways[sft['layout']]}, ORPO in {ways[orpo['layout']]}, both in {orpo['precision']}"


def speed(runs: list[dict]) -> str:
    """What the times depend on: machines of one name may differ by two."""
    measured = ((run["machine"]["gflops"], run["machine"]["bf16_gflops"]) for run in runs)
    exact, rounded = (", ".join(f"{value:.0f}" for value in values) for values in zip(*measured, strict=True))
    return f"The machine's matrix products as each run began: {exact} GFLOP a second in float32, {rounded} in bf16"


def _cells(result: dict) -> str:
    accuracy, chrf = _interval(result, "preference_accuracy", ".0f"), _interval(result, "chrf", ".1f")
    logps = f"{result['chosen_logp']:.2f} | {result['rejected_logp']:.2f}"
    seconds = clock(result["train_seconds"]) if result.get("train_seconds") else "—"
    return f"{accuracy} % | {logps} | {chrf} | {seconds}"


def _interval(result: dict, name: str, form: str) -> str:
    """A value with its 95% interval; shares as percentages."""
    scale = 100 if name.endswith("accuracy") else 1
    value, low, high = (f"{scale * x:{form}}" for x in (result[name], *result[f"{name}_ci95"]))
    return f"{value} ({low} to {high})"
