"""The techniques as pictures: which models they hold, memory, curves for several betas, what was paid for what."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from helpers.evaluation.intervals import mean_and_interval
from helpers.evaluation.methods import METHODS
from helpers.show.style import SERIES_COLOURS, SERIES_LINES, panels_of, styled
from helpers.techniques import costs
from helpers.techniques.budgets import LABELS
from helpers.techniques.results import last_stage, memory_cases, over_stages, peaks_gib

MODELS = {  # technique: its stages, each with a title, the models that learn, and those that are frozen
    "sft": [("chosen answers", ["policy"], [])],
    "rlhf": [
        ("1 · SFT", ["policy"], []),
        ("2 · preference pairs", ["reward model"], []),
        ("3 · policy optimisation (PPO holds a value model too)", ["policy"], ["reference", "reward model"]),
    ],
    "dpo": [("1 · SFT", ["policy"], []), ("2 · preference pairs", ["policy"], ["reference"])],
    "orpo": [("preference pairs", ["policy"], [])],
}
LEARNS = {"facecolor": METHODS["orpo"].colour, "edgecolor": "#333333"}
FROZEN = {"facecolor": "#E8E8E8", "edgecolor": "#333333", "hatch": "//"}


@styled
def plot_techniques() -> Figure:
    """Which models each technique holds in memory at each stage: filled boxes learn, hatched ones are frozen."""
    figure, axis = plt.subplots(figsize=(12, 5.4), layout="constrained")
    for row, (technique, stages) in enumerate(MODELS.items()):
        x, y = 0.0, -1.25 * row
        axis.text(-0.25, y + 0.4, METHODS[technique].label, ha="right", va="center", fontsize=17, weight="bold")
        for title, learning, frozen in stages:
            axis.text(x, y + 0.88, title, fontsize=12, va="bottom")
            for name, look in [*((name, LEARNS) for name in learning), *((name, FROZEN) for name in frozen)]:
                axis.add_patch(plt.Rectangle((x, y), 1.3, 0.78, **look))
                ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if look is FROZEN else None
                text = {"color": "white" if look is LEARNS else "black", "bbox": ground}
                axis.text(x + 0.65, y + 0.39, name, ha="center", va="center", **text)
                x += 1.4
            x += 0.45
    axis.set(xlim=(-1.2, 9.2), ylim=(-4.0, 1.5))
    axis.set_title("Models in memory at each stage (blue: trained, hatched: frozen)")
    axis.axis("off")
    return figure


@styled
def plot_memory(memory: dict) -> Figure:
    """Peak memory above the loaded base of every stage, all weights trained and with LoRA; a line: the estimate."""
    figure, axes = panels_of(2, width=7.0, height=4.8)
    for axis, lora in zip(axes, (False, True), strict=True):
        cases = memory_cases(memory, lora)
        for y, (name, found) in enumerate(reversed(cases.items())):
            peak, low, high = mean_and_interval(peaks_gib(found))
            axis.barh(y, peak, height=0.7, **METHODS[name.split("-")[0]].bars)
            if len(found["peaks"]) > 2:
                axis.errorbar(peak, y, xerr=[[peak - low], [high - peak]], color="#555555", capsize=5)
            guess = found["estimate"]["total"] / 2**30 if found["estimate"] else peak
            if found["estimate"]:
                axis.vlines(guess, y - 0.45, y + 0.45, color="black", linewidth=2.5)
            right = np.nanmax([peak, high, guess])  # of one seed there is no `high`
            axis.annotate(f"{peak:.1f}", (right, y), xytext=(7, -5), textcoords="offset points")
        axis.set_yticks(range(len(cases)), [costs.name_of(name) for name in reversed(cases)])
        axis.set(xlabel="GiB", title="with LoRA" if lora else "all weights trained")
        axis.margins(x=0.12)
        axis.grid(axis="y", visible=False)
    axes[1].tick_params(labelleft=False)
    figure.suptitle("Peak memory above the loaded base (bar: measured, black line: estimated)")
    return figure


@styled
def plot_betas(records: list[dict]) -> Figure:
    """Chosen, rejected and margin while ORPO trains, a line a beta; the band spans the seeds."""
    figure, axes = panels_of(3, width=5.0, height=4.6)
    values = {
        "chosen": lambda record: record["chosen_logp"],
        "rejected": lambda record: record["rejected_logp"],
        "margin: chosen − rejected": lambda record: record["chosen_logp"] - record["rejected_logp"],
    }
    for axis, (title, value) in zip(axes, values.items(), strict=True):
        for (beta, curve), line, colour in zip(records[0]["betas"].items(), SERIES_LINES, SERIES_COLOURS, strict=False):
            steps = [record["step"] for record in curve]
            curves = np.array([[value(point) for point in record["betas"][beta]] for record in records])
            axis.plot(steps, curves.mean(axis=0), linestyle=line, color=colour, label=f"β = {beta}")
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12)
        axis.set(xlabel="optimizer step", title=title)
    axes[0].set_ylabel("validation log-prob per token (nats)")
    axes[0].legend(fontsize=12, handlelength=3.5)
    return figure


@styled
def plot_trade_off(records: list[dict]) -> Figure:
    """Preference accuracy against seconds of training, all stages: filled at equal pairs, hollow at equal seconds."""
    figure, (axis,) = panels_of(1, width=11.0, height=5.2)
    for technique, label in LABELS.items():
        for by_seconds in (False, True):
            there = [record for record in records if last_stage(record, technique, by_seconds)]
            if not there or (by_seconds and technique == "dpo"):
                continue
            seconds = [over_stages(record, technique, by_seconds, "train_seconds") for record in there]
            accuracy = [100 * last_stage(record, technique, by_seconds)["preference_accuracy"] for record in there]
            look = METHODS[technique].points | {"markersize": 11, "linestyle": "none"}
            face = {"markerfacecolor": "white"} if by_seconds else {"label": label}
            axis.plot(seconds, accuracy, alpha=0.35, **look | {"markersize": 6} | face | {"label": None})
            mean, low, high = mean_and_interval(accuracy)
            error = None if len(accuracy) < 3 else [[mean - low], [high - mean]]  # two seeds tell no interval
            axis.errorbar([np.mean(seconds)], [mean], yerr=error, capsize=6, **look | face)
    axis.set(
        xlabel="seconds of training, all stages",
        ylabel="preference accuracy (%)",
        title="What was paid, what was bought\n(filled: equal pairs, hollow: equal seconds; small: each seed)",
    )
    axis.set_xlim(left=0)
    figure.legend(loc="outside right center", fontsize=12)
    return figure


@styled
def plot_policy_optimisation(log: list[dict]) -> Figure:
    """RLHF's last stage: the reward model's score of what the policy samples, and how far it left the reference."""
    figure, (left, right) = panels_of(2)
    steps = [record["step"] for record in log]
    look = METHODS["rlhf"].points | {"markersize": 6}
    left.plot(steps, [record["reward"] for record in log], "-", **look)
    right.plot(steps, [record["kl"] for record in log], "--", **look)
    left.set(xlabel="optimizer step", ylabel="reward", title="Reward of sampled answers, KL taken off")
    right.set(xlabel="optimizer step", ylabel="nats a token", title="KL to the reference")
    return figure
