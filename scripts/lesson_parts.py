"""Markdown of parts of the record that grow: sweeps, the style control, a second split, the gallery of failures.

A part that is not recorded yet is "".
"""

from helpers.data.schema import SIDES
from helpers.evaluation.methods import METHODS
from helpers.evaluation.tables import markdown_table, result_cell
from helpers.training.profiles import PROFILES
from scripts import failures
from scripts.lesson_tables import (
    COMMAND,
    MEASURES,
    WAYS,
    WORDING,
    about,
    controls_table,
    documentation_table,
    shares,
    with_part,
)


def results_parts(runs: list[dict], controls: list[dict]) -> dict[str, str]:
    """{name of a marker in docs/results.md: Markdown} of what was recorded about the lesson beside the runs."""
    return {
        "controls": controls_table(runs, controls),
        "documentation": documentation_table(controls),
        "style": style_part(controls),
        "sweeps": sweeps_table(controls),
        "split": split_part(controls),
        "failures": failures.gallery(controls, COMMAND),
    }


# ── beta and learning rate ──────────────────────────────────────────────────────────────────────────────────


def sweeps_table(controls: list[dict]) -> str:
    """Markdown: every value that was tried, the profile's marked, and which one did best; "" without a sweep."""
    records, rows, told = with_part(controls, "sweeps"), [], []
    for record in records:
        swept = sorted(record["sweeps"].values(), key=lambda entry: tuple(settings_of(entry).values()))
        for method in ("sft", "orpo"):
            entries = [entry for entry in swept if method_of(entry) == method]
            rows += [_swept_row(record, method, entry) for entry in entries]
            told += [_best_of(record, method, entries)] if len(entries) > 1 else []
    if not rows:
        return ""
    head = ["seed", "trained by", "beta", "learning rate", *MEASURES.values()]
    drafts = next(iter(records[0]["sweeps"].values()))["answers_n"]
    note = f"*{about(records, 'sweeps')}; {drafts} validation drafts; % (95%). Bold: the values of the profile.*"
    return "\n\n".join([markdown_table(head, rows), *told, note])


def method_of(entry: dict) -> str:
    """ "sft" for a training without a beta, else "orpo"."""
    return "orpo" if "beta" in entry["settings"] else "sft"


def settings_of(entry: dict) -> dict:
    """Learning rate and, where it has one, beta of a training."""
    return {name: entry["settings"][name] for name in ("beta", "learning_rate") if name in entry["settings"]}


def is_used(record: dict, entry: dict) -> bool:
    """True for a training with the profile's own values."""
    profile = PROFILES[record["profile"]]
    return all(getattr(profile, name) == value for name, value in settings_of(entry).items())


def _swept_row(record: dict, method: str, entry: dict) -> list[str]:
    values = {name: f"{value:g}" for name, value in settings_of(entry).items()}
    cells = [METHODS[method].label, values.get("beta", "—"), values["learning_rate"], *shares(entry)]
    bold = "**" if is_used(record, entry) else ""
    return [str(record["seed"]), *(f"{bold}{cell}{bold}" for cell in cells)]


def _best_of(record: dict, method: str, entries: list[dict]) -> str:
    """In a sentence: the values by which most sampled answers are accepted, beside the profile's own."""

    def told(entry: dict) -> str:
        named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings_of(entry).items())
        return f"{named} ({100 * entry['sampled_answers_right']:.0f}%)"

    best = max(entries, key=lambda entry: entry["sampled_answers_right"])
    sentence = f"{METHODS[method].label}, seed {record['seed']}: most sampled answers are accepted with {told(best)}"
    used = next((entry for entry in entries if is_used(record, entry)), best)
    return f"{sentence}, the values of the profile." if best is used else f"{sentence}; the profile has {told(used)}."


# ── the style control ───────────────────────────────────────────────────────────────────────────────────────


def style_record(controls: list[dict]) -> dict | None:
    """The first record whose SFT and ORPO were measured without the drafts while they trained."""
    return next(iter(with_part(controls, "sweeps", "sft", "orpo")), None)


def style_curves(record: dict) -> dict[str, list[dict]]:
    """{method: measurements while it trained}."""
    return {method: record["sweeps"][method]["style"] for method in ("sft", "orpo")}


def style_about(record: dict) -> str:
    """Where these curves came from."""
    return about([record | {"sweeps": {name: record["sweeps"][name] for name in ("sft", "orpo")}}], "sweeps")


def style_part(controls: list[dict]) -> str:
    """Markdown: how much of what SFT and ORPO did to either answer they did without the draft too; "" without it."""
    if not (record := style_record(controls)):
        return ""
    curves = style_curves(record)
    ends = {"base": curves["sft"][0], "SFT": curves["sft"][-1], "ORPO": curves["orpo"][-1]}
    rows = [[label, *(cell for side in SIDES for cell in _style_cells(end, side))] for label, end in ends.items()]
    heads = [f"{side}, {what}" for side in SIDES for what in ("with the draft", "alone", "added by the draft")]
    base, sft = ends["base"], ends["SFT"]
    rise, alone = (sft[f"rejected_{kind}"] - base[f"rejected_{kind}"] for kind in ("logp", "alone"))
    added = {side: " → ".join(_style_cells(end, side)[2] for end in ends.values()) for side in SIDES}
    parts = [
        "### The same answers without the draft",
        "Part of what a training does to an answer has nothing to do with the prompt: anything that reads like the "
        "chosen answers becomes likelier. The same answers, scored after an empty request, show that part.",
        "![Log-probs of validation pairs while SFT and ORPO train, with the draft and alone](imgs/style_control.png)",
        markdown_table(["", *heads], rows),
        f"Under SFT the log-prob of the rejected answers changes by {rise:+.2f} nats a token with their draft, and by "
        f"{alone:+.2f} without any: the second is style alone. What the draft adds, under base → SFT → ORPO: to the "
        f"chosen answers {added['chosen']}, to the rejected ones {added['rejected']}.",
        f"*{style_about(record)}; {PROFILES[record['profile']].monitor_pairs} validation pairs, mean log-probs per "
        "token in nats.*",
    ]
    return "\n\n".join(parts)


def _style_cells(end: dict, side: str) -> list[str]:
    asked, alone = end[f"{side}_logp"], end[f"{side}_alone"]
    return [f"{asked:.2f}", f"{alone:.2f}", f"{asked - alone:+.2f}"]


# ── a second split ──────────────────────────────────────────────────────────────────────────────────────────


def split_part(controls: list[dict]) -> str:
    """Markdown: SFT and ORPO where other services are held out, and their paired difference; "" without it."""
    records = with_part(controls, "second_split")
    if not records:
        return ""
    rows, services = [], []
    for record in records:
        for name, found in record["second_split"].items():
            rows += [
                [f"{name}, run {record['seed']}", WAYS[way], *shares(found[way], MEASURES | WORDING)]
                for way in ("sft", "orpo", "word_editor", "rule_editor")
            ]
            gains = [result_cell(found["orpo_minus_sft"], key, "+.1f", 100) for key in MEASURES | WORDING]
            rows.append(["", "**ORPO − SFT, paired, points**", *(f"**{gain}**" for gain in gains)])
            services.append(f"{found['train_services']} services trained on, {found['heldout_services']} held out")
    drafts = next(iter(records[0]["second_split"].values()))["sft"]["answers_n"]
    note = f"*{about(records, 'second_split')}; {'; '.join(services)}; {drafts} drafts; % (95%).*"
    parts = [
        "### Another split",
        "All runs above hold out the same services. Here another seed of `scripts/domains/house_style.py` decides "
        "which services are held out and which faults are written into the drafts. Both methods are trained once on "
        "its pairs.",
        markdown_table(["split", "trained or written by", *(MEASURES | WORDING).values()], rows),
        note,
    ]
    return "\n\n".join(parts)
