"""Recorded comparisons as Markdown tables: the numbers of notebook 07 and of the README."""

from collections.abc import Callable

from helpers.evaluation.intervals import interval_text, seeds_text
from helpers.evaluation.tables import markdown_table
from helpers.techniques import costs
from helpers.techniques.budgets import LABELS
from helpers.techniques.results import (
    change,
    last_stage,
    lead,
    memory_cases,
    memory_provenance,
    over_stages,
    peaks_gib,
    provenance_of,
    recorded,
    recorded_memory,
    score,
    setting,
)
from helpers.training.step_memory import TECHNIQUES

Value = Callable[[dict, str, bool], float]
BOUGHT: dict[str, tuple[Value, str, float]] = {  # label: value of (record, technique, by seconds?), format, scale
    "preference accuracy, %": (lambda *of: last_stage(*of)["preference_accuracy"], ".0f", 100),
    "chosen log-prob": (lambda *of: last_stage(*of)["chosen_logp"], ".2f", 1),
    "rejected log-prob": (lambda *of: last_stage(*of)["rejected_logp"], ".2f", 1),
    "chrF of answers": (lambda *of: last_stage(*of)["chrf"], ".1f", 1),
    "reward model's score above the base's": (score, ".2f", 1),
    "seconds of training": (lambda *of: over_stages(*of, "train_seconds"), ".0f", 1),
    "pairs seen, all stages": (lambda *of: over_stages(*of, "pairs"), ".0f", 1),
    "positions trained on": (lambda *of: over_stages(*of, "trained_tokens"), ",.0f", 1),
    "positions without gradient": (lambda *of: over_stages(*of, "forward_tokens"), ",.0f", 1),
}
STAGE_ROWS: dict[str, tuple[str, str, float]] = {  # label: key in a stage's result, format, scale
    "held-out preference accuracy, %": ("preference_accuracy", ".0f", 100),
    "reward model right, %": ("reward_accuracy", ".0f", 100),
    "pairs": ("pairs", ",.0f", 1),
    "positions trained on": ("trained_tokens", ",.0f", 1),
    "positions without gradient": ("forward_tokens", ",.0f", 1),
    "seconds": ("train_seconds", ".0f", 1),
}
MEASURED_AS = {"dpo": "dpo-precomputed"}  # a stage's name in the memory record, where that differs
PAPER = {"0.1": (1, 1), "0.5": (1, -1), "1": (-1, -1)}  # Appendix E of arXiv 2403.07691: chosen, rejected


def quality_table(records: list[dict], by_seconds: bool = False) -> str:
    """What each technique bought and spent, the mean over seeds with its interval; accuracies also seed by seed."""
    seeds = ", ".join(str(record["seed"]) for record in records)
    budget = f"equal {'seconds' if by_seconds else 'pairs'} ({'seeds' if len(records) > 1 else 'seed'} {seeds})"
    rows = []
    for label, (value, form, scale) in BOUGHT.items():
        row = [label]
        for technique in LABELS:
            there = [record for record in records if last_stage(record, technique, by_seconds)]
            values = [value(record, technique, by_seconds) for record in there]
            row.append(seeds_text(values, form, scale) if values else "no time left")
        rows.append(row)
    rows[1:1] = _each_seed(records, by_seconds)
    return markdown_table([budget, *LABELS.values()], rows)


def _each_seed(records: list[dict], by_seconds: bool) -> list[list[str]]:
    """Rows with the accuracy of each seed, where there are several, and by DPO's own score, where it was measured."""
    rows = []
    for label, key in {"each seed": "preference_accuracy", "by its implicit reward": "implicit_accuracy"}.items():
        found = [[last_stage(record, name, by_seconds) for record in records] for name in LABELS]
        cells = [", ".join(f"{100 * stage[key]:.0f}" for stage in of if stage and key in stage) or "—" for of in found]
        if set(cells) != {"—"} and (key == "implicit_accuracy" or len(records) > 1):
            rows.append([f"… {label}", *cells])
    return rows


def lead_text(records: list[dict]) -> str:
    """DPO's lead over ORPO in preference accuracy, at equal pairs and at equal seconds, in a sentence."""
    found = (lead(records, "dpo", "orpo", by_seconds) for by_seconds in (False, True))
    leads = [interval_text(mean, interval, "+.1f") for mean, *interval in found]
    return (
        f"DPO − ORPO, points of preference accuracy: {leads[0]} at equal pairs, {leads[1]} at equal seconds; mean over "
        "seeds with its 95% interval (Student's t)."
    )


def stage_table(records: list[dict], memory: dict) -> str:
    """The accounting of every stage at equal pairs, the mean over seeds with its interval."""
    stages = ["sft", "dpo", "reward", "rlhf", "orpo"]
    cases = [MEASURED_AS.get(stage, stage) for stage in stages]
    rows = []
    for label, (key, form, scale) in STAGE_ROWS.items():
        found = [[record["stages"][stage].get(key) for record in records] for stage in stages]
        rows.append([label, *("—" if None in values else seeds_text(values, form, scale) for values in found)])
    lora = memory_cases(memory, lora=True)
    peaks = (seeds_text(peaks_gib(lora[case]), ".2f") for case in cases)
    head = ["stage", *(costs.name_of(case) for case in cases)]
    return markdown_table(head, [*rows, ["peak memory above the base, GiB", *peaks]])


def memory_table(memory: dict) -> str:
    """Passes a pair, models held, peak memory above the loaded base beside the estimate, all weights and LoRA."""
    full, lora = memory_cases(memory, False), memory_cases(memory, True)
    head = ["stage", "passes a pair\\*", "models held", "peak, all weights", "estimate", "peak, LoRA"]
    rows = []
    for name, found in full.items():
        technique = TECHNIQUES.get(name)
        once = " (once)" if technique and technique.forward_once else ""  # before training, however many epochs follow
        passes = f"{technique.forward}{once} + {technique.trained}" if technique else "\\*\\*"
        held = f"{1 + technique.reference}" if technique else "3"
        estimate = f"{found['estimate']['total'] / 2**30:.2f} GiB" if found["estimate"] else "—"
        peak, with_lora = (f"{seeds_text(peaks_gib(case), '.2f')} GiB" for case in (found, lora[name]))
        rows.append([costs.name_of(name), passes, held, peak, estimate, with_lora])
    notes = f"\\* answers without gradient + answers that are trained. \\*\\* {costs.RLHF}."
    return f"{markdown_table(head, rows)}\n\n{notes}"


def memory_ratios(memory: dict) -> str:
    """ORPO's peak memory above the base against DPO's, as ratios of one run, beside those of the estimate."""
    rows = []
    for lora in (False, True):
        cases = memory_cases(memory, lora)
        for other in ("dpo", "dpo-precomputed"):
            for ours in ("orpo", "orpo-rows"):
                seeds = zip(peaks_gib(cases[ours]), peaks_gib(cases[other]), strict=True)
                measured = seeds_text([mine / theirs for mine, theirs in seeds], ".2f")
                estimated = cases[ours]["estimate"]["total"] / cases[other]["estimate"]["total"]
                names = f"{costs.name_of(ours)} / {costs.name_of(other)}"
                rows.append([names, "LoRA" if lora else "all weights", measured, f"{estimated:.2f}"])
    return markdown_table(["peak memory above the base", "trained", "measured", "estimated"], rows)


def beta_table(records: list[dict]) -> str:
    """Chosen, rejected and margin at the end of ORPO for each beta, the mean over seeds with its interval."""
    rows = []
    for beta in records[0]["betas"]:
        ends = [record["betas"][beta][-1] for record in records]
        chosen, rejected = ([end[f"{side}_logp"] for end in ends] for side in ("chosen", "rejected"))
        margin = [c - r for c, r in zip(chosen, rejected, strict=True)]
        rows.append([beta, *(seeds_text(values, "+.2f") for values in (chosen, rejected, margin))])
    return markdown_table(["beta", "chosen", "rejected", "margin"], rows)


def against_the_paper(records: list[dict]) -> str:
    """The direction of chosen and rejected for each beta that the paper shows, and ours."""
    words = {1: "rises", -1: "falls", 0: "unclear"}
    rows = []
    for beta, (chosen, rejected) in PAPER.items():
        row = [beta, f"{words[chosen]}, {words[rejected]}"]
        for side in ("chosen", "rejected"):
            mean, low, high = change(records, beta, side)
            row.append(f"{words[1 if low > 0 else -1 if high < 0 else 0]} ({mean:+.2f})")
        rows.append(row)
    return markdown_table(["beta", "paper: chosen, rejected", "here: chosen", "here: rejected"], rows)


def readme_text() -> str:
    """The README's comparison, made from the recorded files."""
    records, memory = recorded(), recorded_memory()
    parts = [
        quality_table(records),
        quality_table(records, by_seconds=True),
        lead_text(records),
        f"*{provenance_of(records)}; {setting(records)}.*",
        memory_ratios(memory),
        f"*{memory_provenance(memory)}.*",
    ]
    return "\n\n".join(parts)
