"""Recorded comparisons (docs/results/techniques-*.json) as tables: the numbers of notebook 07 and of the README."""

import json
import math
from collections.abc import Callable

import numpy as np

from helpers.files import REPOSITORY
from helpers.runs.machine import machine_text
from helpers.techniques import costs
from helpers.techniques.comparison import STAGES
from helpers.training.profiles import PROFILES

RESULTS = REPOSITORY / "docs" / "results"
NAMES = {"sft": "SFT", "dpo": "SFT → DPO", "rlhf": "SFT → reward model → RLHF", "orpo": "ORPO"}
# 97.5% quantile of Student's t for n values
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def recorded() -> list[dict]:
    """The recorded comparisons by seed; a FileNotFoundError says how to record one."""
    paths = sorted(RESULTS.glob("techniques-seed*.json"))
    if not paths:
        raise FileNotFoundError("no recorded comparison of the techniques: make techniques")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def recorded_memory() -> dict:
    """The recorded memory of each technique; a FileNotFoundError says how to record it."""
    path = RESULTS / "techniques-memory.json"
    if not path.is_file():
        raise FileNotFoundError("no recorded memory of the techniques: make techniques")
    return json.loads(path.read_text(encoding="utf-8"))


# ── what a technique bought ─────────────────────────────────────────────────────────────────────────────────


def last_name(technique: str, by_seconds: bool) -> str:
    """What a technique's last stage is called. DPO, which sets the seconds of all, has one for both budgets."""
    return f"{technique}-seconds" if by_seconds and technique != "dpo" else technique


def last_stage(record: dict, technique: str, by_seconds: bool) -> dict | None:
    """The result of a technique's last stage; None where it was not come to: RLHF may find no time for it."""
    return record["stages"].get(last_name(technique, by_seconds))


def over_stages(record: dict, technique: str, by_seconds: bool, value: str) -> float:
    """A cost summed over all stages of a technique."""
    *before, _ = STAGES[technique]
    return sum(record["stages"][name][value] for name in before) + last_stage(record, technique, by_seconds)[value]


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean over seeds and its 95% interval by Student's t: (mean, low, high). One value has no interval: NaN."""
    mean, n = float(np.mean(values)), len(values)
    half = STUDENT[n] * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return mean, mean - half, mean + half


def spread(values: list[float], form: str, scale: float = 1) -> str:
    """A mean over seeds with its interval, as text; of fewer than three seeds, which tell no interval, each value."""
    if len(values) < 3:
        return ", ".join(f"{scale * value:{form}}" for value in values)
    mean, low, high = (scale * value for value in mean_and_interval(values))
    if scale == 100:  # Student's t knows nothing of the ends of a percentage
        low, high = max(low, 0), min(high, 100)
    return f"{mean:{form}}" if high - low < 1e-9 else f"{mean:{form}} ({low:{form}} to {high:{form}})"


Row = Callable[[dict, str, bool], float]
BOUGHT: dict[str, tuple[Row, str, float]] = {
    "preference accuracy, %": (lambda *of: last_stage(*of)["preference_accuracy"], ".0f", 100),
    "chosen log-prob": (lambda *of: last_stage(*of)["chosen_logp"], ".2f", 1),
    "rejected log-prob": (lambda *of: last_stage(*of)["rejected_logp"], ".2f", 1),
    "chrF of answers": (lambda *of: last_stage(*of)["chrf"], ".1f", 1),
    "reward model's score above the base's": (lambda *of: score(*of), ".2f", 1),
    "seconds of training": (lambda *of: over_stages(*of, "train_seconds"), ".0f", 1),
    "pairs seen, all stages": (lambda *of: over_stages(*of, "pairs"), ".0f", 1),
    "positions trained on": (lambda *of: over_stages(*of, "trained_tokens"), ",.0f", 1),
    "positions without gradient": (lambda *of: over_stages(*of, "forward_tokens"), ",.0f", 1),
}


def score(record: dict, technique: str, by_seconds: bool) -> float:
    """Mean reward of the technique's answers to held-out questions above that of the base's answers.

    By the reward model that RLHF was trained on. Its zero means nothing and differs from seed to seed.
    """
    return record["rewards"][last_name(technique, by_seconds)] - record["rewards"]["base"]


def quality_table(records: list[dict], by_seconds: bool = False) -> str:
    """Markdown: what each technique bought and spent, the mean over seeds with its interval."""
    seeds = ", ".join(str(record["seed"]) for record in records)
    budget = f"equal {'seconds' if by_seconds else 'pairs'} ({'seeds' if len(records) > 1 else 'seed'} {seeds})"
    lines = [f"| {budget} | {' | '.join(NAMES.values())} |", "|---" * (len(NAMES) + 1) + "|"]
    for label, (value, form, scale) in BOUGHT.items():
        cells = [cell(records, technique, by_seconds, value, form, scale) for technique in NAMES]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


STAGE_ROWS: dict[str, tuple[str, str, float]] = {  # label: key in a stage's result, form, scale
    "held-out preference accuracy, %": ("preference_accuracy", ".0f", 100),
    "reward model right, %": ("reward_accuracy", ".0f", 100),
    "pairs": ("pairs", ",.0f", 1),
    "positions trained on": ("trained_tokens", ",.0f", 1),
    "positions without gradient": ("forward_tokens", ",.0f", 1),
    "seconds": ("train_seconds", ".0f", 1),
}
MEASURED_AS = {"dpo": "dpo-precomputed"}  # how the memory record calls a stage, where that differs


def stage_table(records: list[dict], memory: dict) -> str:
    """Markdown: the accounting of every stage at equal pairs, the mean over seeds with its interval."""
    stages = ["sft", "dpo", "reward", "rlhf", "orpo"]
    names = [costs.name_of(MEASURED_AS.get(stage, stage)) for stage in stages]
    lines = [f"| stage | {' | '.join(names)} |", "|---" * (len(stages) + 1) + "|"]
    for label, (key, form, scale) in STAGE_ROWS.items():
        found = [[record["stages"][stage].get(key) for record in records] for stage in stages]
        cells = ["—" if None in values else spread(values, form, scale) for values in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lora = memory_cases(memory, lora=True)
    peaks = [spread(peaks_gib(lora[MEASURED_AS.get(stage, stage)]), ".2f") for stage in stages]
    return "\n".join([*lines, f"| peak memory above the base, GiB | {' | '.join(peaks)} |"])


def cell(records: list[dict], technique: str, by_seconds: bool, value: Row, form: str, scale: float) -> str:
    """One cell: over those seeds in which the technique came to its last stage."""
    there = [record for record in records if last_stage(record, technique, by_seconds)]
    return spread([value(record, technique, by_seconds) for record in there], form, scale) if there else "no time left"


def provenance(records: list[dict]) -> str:
    """From which command, machine and date these numbers came."""
    days = " to ".join(sorted({record["date"][:10] for record in records}))
    seeds = ", ".join(str(record["seed"]) for record in records)
    first = records[0]
    return f"make techniques, profile {first['profile']}, seeds {seeds} · {machine_text(first['machine'])} · {days}"


def setting(records: list[dict]) -> str:
    """On how much data, in which layout and precision, with which settings, and how fast the machine was."""
    first = records[0]
    profile, budget = PROFILES[first["profile"]], first["budget"]
    speeds = ", ".join(f"{record['machine']['gflops']:.0f}" for record in records)
    return (
        f"{first['budget']['pairs']} pairs a stage, {first['heldout_pairs']} held-out pairs; LoRA, "
        f"{first['stages']['dpo']['precision']} (RLHF's last stage: float32); brackets: 95% over the seeds (Student's "
        f"t). ORPO in shared rows, all others in TRL's padded rows. ORPO's β {profile.beta:g}, DPO's "
        f"{budget['dpo_beta']:g}; learning rate {profile.learning_rate:g} (SFT, ORPO), "
        f"{budget['dpo_learning_rate']:g} (DPO). Matrix products as each seed began: {speeds} GFLOP a second"
    )


# ── what a technique needs ──────────────────────────────────────────────────────────────────────────────────


def memory_cases(memory: dict, lora: bool) -> dict[str, dict]:
    """The measured cases by technique, trained in full or with LoRA."""
    return {c["case"]["technique"]: c for c in memory["cases"] if bool(c["case"]["lora_rank"]) == lora}


def peaks_gib(case: dict) -> list[float]:
    """The measured peaks of a case, one a seed, in GiB above the loaded base."""
    return [peak / 2**30 for peak in case["peaks"]]


def memory_table(memory: dict) -> str:
    """Markdown: passes a pair, models held, peak memory above the loaded base beside the estimate, full and LoRA."""
    full, lora = memory_cases(memory, False), memory_cases(memory, True)
    lines = ["| stage | passes a pair\\* | models held | peak, all weights | estimate | peak, LoRA |"]
    lines.append("|---|---|---|---|---|---|")
    for name, found in full.items():
        technique = costs.TECHNIQUES.get(name)
        passes = f"{technique.forward}{once(technique)} + {technique.trained}" if technique else "\\*\\*"
        held = f"{1 + technique.reference}" if technique else "3"
        estimate = f"{found['estimate']['total'] / 2**30:.2f} GiB" if found["estimate"] else "—"
        peak, with_lora = (f"{spread(peaks_gib(case), '.2f')} GiB" for case in (found, lora[name]))
        lines.append(f"| {costs.name_of(name)} | {passes} | {held} | {peak} | {estimate} | {with_lora} |")
    notes = f"\\* answers without gradient + answers that are trained. \\*\\* {costs.RLHF}."
    return "\n".join([*lines, "", notes])


def once(technique) -> str:
    """Said of a reference that does its passes before training, however many epochs follow."""
    return " (once)" if technique.forward_once else ""


def memory_ratios(memory: dict) -> str:
    """ORPO's peak memory above the base against DPO's, as ratios of one run, beside those of the estimate."""
    lines = []
    for lora in (False, True):
        cases = memory_cases(memory, lora)
        for other in ("dpo", "dpo-precomputed"):
            for ours in ("orpo", "orpo-rows"):
                seeds = zip(peaks_gib(cases[ours]), peaks_gib(cases[other]), strict=True)
                measured = spread([mine / theirs for mine, theirs in seeds], ".2f")
                guessed = cases[ours]["estimate"]["total"] / cases[other]["estimate"]["total"]
                names, way = f"{costs.name_of(ours)} / {costs.name_of(other)}", "LoRA" if lora else "all weights"
                lines.append(f"| {names} | {way} | {measured} | {guessed:.2f} |")
    return "\n".join(["| peak memory above the base | trained | measured | estimated |", "|---|---|---|---|", *lines])


def memory_origin(memory: dict) -> str:
    """From which command, machine and date, and over how many seeds."""
    seeds = len(memory["cases"][0]["peaks"])
    return (
        f"make techniques · {machine_text(memory['machine'])} · {memory['date'][:10]}; brackets: 95% over {seeds} seeds"
    )


def memory_provenance(memory: dict) -> str:
    """The same, and what was measured."""
    step = memory["cases"][0]["step"]
    return (
        f"{memory_origin(memory)}; SmolLM2-135M in float32, AdamW, {step['pairs']} pairs of {step['prompt']} + "
        f"{step['response']} tokens, a fresh process each; resident set, with glibc told to give back what is freed"
    )


# ── beta ────────────────────────────────────────────────────────────────────────────────────────────────────


def beta_table(records: list[dict]) -> str:
    """Markdown: chosen, rejected and margin at the end of ORPO for each beta, the mean over seeds with its interval."""
    lines = ["| beta | chosen | rejected | margin |", "|---|---|---|---|"]
    for beta in records[0]["betas"]:
        ends = [record["betas"][beta][-1] for record in records]
        chosen, rejected = ([end[f"{side}_logp"] for end in ends] for side in ("chosen", "rejected"))
        margin = [c - r for c, r in zip(chosen, rejected, strict=True)]
        cells = " | ".join(spread(values, "+.2f") for values in (chosen, rejected, margin))
        lines.append(f"| {beta} | {cells} |")
    return "\n".join(lines)


def change(records: list[dict], beta: str, side: str) -> tuple[float, float, float]:
    """By how much a log-prob moved from the base to the end of training with a beta: mean and interval over seeds."""
    curves = [record["betas"][beta] for record in records]
    return mean_and_interval([curve[-1][f"{side}_logp"] - curve[0][f"{side}_logp"] for curve in curves])


PAPER = {"0.1": (1, 1), "0.5": (1, -1), "1": (-1, -1)}  # Appendix E of arXiv 2403.07691: chosen, rejected


def against_the_paper(records: list[dict]) -> str:
    """Markdown: the direction of chosen and rejected for each beta that the paper shows, and ours."""
    words = {1: "rises", -1: "falls", 0: "unclear"}
    lines = ["| beta | paper: chosen, rejected | here: chosen | here: rejected |", "|---|---|---|---|"]
    for beta, (chosen, rejected) in PAPER.items():
        ours = []
        for side in ("chosen", "rejected"):
            mean, low, high = change(records, beta, side)
            direction = 1 if low > 0 else -1 if high < 0 else 0
            ours.append(f"{words[direction]} ({mean:+.2f})")
        lines.append(f"| {beta} | {words[chosen]}, {words[rejected]} | {ours[0]} | {ours[1]} |")
    return "\n".join(lines)


# ── the README ──────────────────────────────────────────────────────────────────────────────────────────────


def readme_text() -> str:
    """The README's comparison, made from the recorded files."""
    records, memory = recorded(), recorded_memory()
    parts = [
        quality_table(records),
        quality_table(records, by_seconds=True),
        f"*{provenance(records)}; {setting(records)}.*",
        memory_ratios(memory),
        f"*{memory_provenance(memory)}.*",
    ]
    return "\n\n".join(parts)
