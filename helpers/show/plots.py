"""Figures, from recorded numbers or from the objective itself. Okabe-Ito colours, and never colour alone."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers.objective.odds_ratio import log_odds, odds_ratio_loss

COLOUR = {"base": "#555555", "sft": "#E69F00", "orpo": "#0072B2", "chosen": "#009E73", "rejected": "#D55E00"}
COLOUR |= {"dpo": "#CC79A7", "rlhf": "#56B4E9"}
MARKER = {"base": "s", "sft": "o", "orpo": "^", "dpo": "v", "rlhf": "D"}
GUESSING = "Right answer likelier than wrong one\n(95% interval; dotted: guessing)"
NAME = {"base": "base", "sft": "SFT", "orpo": "ORPO", "dpo": "DPO", "rlhf": "RLHF"}
STYLE = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
}


def panels_of(columns: int = 1, width: float = 6.2, height: float = 4.4) -> tuple[Figure, list]:
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False)
    return figure, list(axes[0])


def styled(draw):
    """Draw under the workshop's style, whatever the notebook has set."""

    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    wrapper.__doc__, wrapper.__name__ = draw.__doc__, draw.__name__
    return wrapper


def stamp(figure: Figure, text: str) -> Figure:
    """Say under the figure from which run, machine and date it came."""
    figure.supxlabel(text, fontsize=9, color="#444444")
    return figure


# ── from a run ──────────────────────────────────────────────────────────────────────────────────────────────


@styled
def plot_monitor(records_by_method: dict[str, list[dict]], title: str = "", faint: tuple = ()) -> Figure:
    """Held-out log-probs and their margin while training: chosen solid, rejected dashed, a colour a method.

    faint: methods to compare with, drawn paler than the one that trains.
    """
    figure, (left, right) = panels_of(2)
    last = max([record["step"] for records in records_by_method.values() for record in records] + [1])
    for method, records in records_by_method.items():
        steps = [record["step"] for record in records]
        look = {"color": COLOUR[method], "marker": MARKER[method], "alpha": 0.4 if method in faint else 1}
        chosen, rejected = ([record[f"{side}_logp"] for record in records] for side in ("chosen", "rejected"))
        left.plot(steps, chosen, "-", label=f"{NAME[method]} chosen", **look)
        left.plot(steps, rejected, "--", label=f"{NAME[method]} rejected", markerfacecolor="white", **look)
        right.plot(steps, np.subtract(chosen, rejected), "-", label=NAME[method], **look)
    left.set(xlabel="optimizer step", ylabel="log-prob per token (nats)", title=title or "Held-out log-probs")
    right.set(xlabel="optimizer step", ylabel="chosen − rejected (nats)", title="Margin between right and wrong")
    for axis in (left, right):
        axis.legend(fontsize=11)
        axis.set_xlim(-0.02 * last, 1.02 * last)  # before the first step too, a step is a whole number from 0
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def plot_results(methods: dict[str, dict]) -> Figure:
    """Preference accuracy with its 95% interval, and the log-probs behind it, for each method."""
    figure, (left, right) = panels_of(2)
    for x, (method, result) in enumerate(methods.items()):
        value, (low, high) = result["preference_accuracy"], result["preference_accuracy_ci95"]
        error = [[value - low], [high - value]]
        look = {"color": COLOUR[method], "marker": MARKER[method], "markersize": 11, "linestyle": "none"}
        left.errorbar([x], [value], yerr=error, capsize=7, **look)
        left.annotate(f"{value:.0%}", (x, value), xytext=(14, -4), textcoords="offset points")
        right.plot([x], [result["chosen_logp"]], **look)
        right.plot([x], [result["rejected_logp"]], markerfacecolor="white", **look)
        right.vlines(x, result["rejected_logp"], result["chosen_logp"], color=COLOUR[method], linestyle=":")
    for axis in (left, right):
        axis.set_xticks(range(len(methods)), [NAME[method] for method in methods])
        axis.set_xlim(-0.5, len(methods) - 0.3)
    left.axhline(0.5, color="#888888", linestyle=":")
    left.set(
        ylabel="preference accuracy",
        title="Right answer likelier than wrong one\n(95% interval; dotted: guessing)",
    )
    right.set(ylabel="log-prob per token (nats)", title="Filled: chosen answer\nhollow: rejected answer")
    return figure


@styled
def plot_curves(runs: list[dict]) -> Figure:
    """Recorded runs: held-out log-probs while SFT and ORPO train, the mean over seeds with a band from min to max."""
    figure, panels = panels_of(2)
    for axis, method in zip(panels, ("sft", "orpo"), strict=True):
        steps = [record["step"] for record in runs[0]["monitor"][method]]
        for side, line in (("chosen", "-"), ("rejected", "--")):
            curves = np.array([[record[f"{side}_logp"] for record in run["monitor"][method]] for run in runs])
            look = {"color": COLOUR[side], "marker": MARKER[method]}
            axis.plot(steps, curves.mean(axis=0), line, label=side, **look)
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=COLOUR[side], alpha=0.2)
        axis.set(xlabel="optimizer step", title=f"{NAME[method]}: held-out log-probs")
        axis.legend(loc="center right")
    panels[0].set_ylabel("log-prob per token (nats)")
    panels[1].sharey(panels[0])
    return figure


@styled
def plot_seeds(runs: list[dict]) -> Figure:
    """Recorded runs: preference accuracy with its 95% interval, and log-probs, for every method and seed."""
    figure, (left, right) = panels_of(2)
    methods = list(runs[0]["methods"])
    for i, run in enumerate(runs):
        for x, method in enumerate(methods):
            result, at = run["methods"][method], x + 0.18 * (i - (len(runs) - 1) / 2)
            value, (low, high) = result["preference_accuracy"], result["preference_accuracy_ci95"]
            look = {"color": COLOUR[method], "marker": MARKER[method], "markersize": 9, "linestyle": "none"}
            left.errorbar([at], [100 * value], yerr=[[100 * (value - low)], [100 * (high - value)]], capsize=5, **look)
            right.plot([at], [result["chosen_logp"]], **look)
            right.plot([at], [result["rejected_logp"]], markerfacecolor="white", **look)
    for axis in (left, right):
        axis.set_xticks(range(len(methods)), [NAME[method] for method in methods])
    left.axhline(50, color="#888888", linestyle=":")
    left.set(
        ylabel="preference accuracy (%)", title="Right answer likelier than wrong one\n(95% interval; dotted: guessing)"
    )
    right.set(ylabel="log-prob per token (nats)", title="Filled: chosen answer\nhollow: rejected answer")
    return figure


@styled
def plot_lengths(tokenized, max_length: int) -> Figure:
    """Histogram of prompt, chosen and rejected lengths in tokens, with the limit."""
    figure, (axis,) = panels_of(1, width=8)
    starts = np.array(tokenized["prompt_length"])
    lengths = {"prompt": starts}
    for side in ("chosen", "rejected"):
        lengths[side] = np.array([len(ids) for ids in tokenized[f"{side}_input_ids"]]) - starts
    bins = np.arange(0, max(values.max() for values in lengths.values()) + 4, 2)
    for (name, values), line in zip(lengths.items(), ("-", "--", ":"), strict=True):
        axis.hist(
            values,
            bins,
            histtype="step",
            linestyle=line,
            color=COLOUR.get(name, "#555555"),
            label=name,
            lw=2.2,
        )
    axis.set(xlabel="tokens", ylabel="pairs", title=f"Lengths (a row may hold {max_length} tokens)")
    axis.legend()
    return figure


BENCH = {  # name, colour, hatch or marker of each method in a benchmark
    "ours": ("ours", COLOUR["orpo"], "", "^"),
    "trl": ("TRL ORPO", "#CC79A7", "//", "o"),
    "liger": ("Liger ORPO", "#56B4E9", "..", "D"),
    "sft": ("TRL SFT", COLOUR["sft"], "xx", "s"),
}


@styled
def plot_bench(bench: dict) -> Figure:
    """A recorded benchmark: seconds and memory of a step by method; how ours and TRL's grow with pairs and shapes."""
    figure, ((speed, memory), (pairs, shapes)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    _bench_bars(speed, bench["full"], _step_seconds)
    _bench_bars(memory, bench["full"], lambda record: record["peak_bytes_above_model"] / 2**30)
    speed.set(title="Seconds a step (8 pairs)", xlabel="seconds")
    memory.set(title="Peak memory above the model", xlabel="GiB")
    for method, line in (("ours", "-"), ("trl", "--")):
        name, colour, _, marker = BENCH[method]
        rows = [record for record in bench["pairs"] if record["case"]["method"] == method]
        at = [record["case"]["pairs"] for record in rows]
        pairs.plot(at, [_step_seconds(record) for record in rows], line, marker=marker, color=colour, label=name)
    pairs.set(title="Growth with pairs", xlabel="pairs a step", ylabel="seconds a step")
    pairs.legend()
    _bench_shapes(shapes, bench["shapes"])
    return figure


def _step_seconds(record: dict) -> float:
    return record["case"]["pairs"] / record["pairs_per_second"]


def _bench_bars(axis, records: list[dict], value) -> None:
    for y, record in enumerate(reversed(records)):
        _, colour, hatch, _ = BENCH[record["case"]["method"]]
        axis.barh(y, value(record), color=colour, hatch=hatch, edgecolor="white")
        axis.annotate(f"{value(record):.1f}", (value(record), y), xytext=(4, -4), textcoords="offset points")
    axis.set_yticks(range(len(records)), [BENCH[record["case"]["method"]][0] for record in reversed(records)])
    axis.margins(x=0.12)


def _bench_shapes(axis, records: list[dict]) -> None:
    """Grouped bars: ours and TRL's for each length of prompt and response."""
    for side, method in ((-0.2, "ours"), (0.2, "trl")):
        name, colour, hatch, _ = BENCH[method]
        rows = [record for record in records if record["case"]["method"] == method]
        seconds = [_step_seconds(record) for record in rows]
        axis.bar(np.arange(len(rows)) + side, seconds, 0.4, color=colour, hatch=hatch, edgecolor="white", label=name)
    labels = [f"{row['case']['prompt_tokens']} + {row['case']['response_tokens']}" for row in rows]
    axis.set_xticks(range(len(rows)), labels)
    axis.set(
        title="Growth with prompt and length", xlabel="prompt + response tokens", ylabel="seconds a step (4 pairs)"
    )
    axis.legend()


# ── the objective ───────────────────────────────────────────────────────────────────────────────────────────


@styled
def plot_log_odds() -> Figure:
    """Log-prob and log-odds against probability: alike while p is small, far apart as p nears one."""
    figure, (axis,) = panels_of(1, width=8)
    p = torch.linspace(0.005, 0.995, 400)
    axis.plot(p, p.log(), "--", color=COLOUR["sft"], label="log p")
    axis.plot(p, log_odds(p.log()), "-", color=COLOUR["orpo"], label="log-odds = log p − log(1 − p)")
    axis.axhline(0, color="#888888", linewidth=1)
    axis.set(xlabel="mean token probability p", ylabel="nats", title="Odds tell 0.9 from 0.99; log p hardly does")
    axis.legend()
    return figure


@styled
def plot_loss(beta: float) -> Figure:
    """L_ORPO over (p chosen, p rejected) as contours, and how hard it pulls on either log-prob."""
    figure, (left, right) = panels_of(2)
    p = torch.linspace(0.01, 0.99, 99)
    chosen, rejected = torch.meshgrid(p, p, indexing="xy")
    loss = -chosen.log() + beta * odds_ratio_loss(chosen.log(), rejected.log())
    levels = np.unique(np.quantile(loss, np.linspace(0.06, 0.86, 9)).round(1))  # as much room between any two
    contour = left.contour(p, p, loss, levels=levels, cmap="viridis")
    left.clabel(contour, fontsize=11, fmt="%.1f", colors="black")
    left.set(xlabel="p(chosen)", ylabel="p(rejected)", title=f"ORPO loss, β = {beta:g}")
    for fixed, line in ((0.05, "-"), (0.3, "--"), (0.7, ":")):
        logps = torch.stack([torch.full_like(p, fixed).log(), p.log()]).requires_grad_()
        (-logps[0] + beta * odds_ratio_loss(logps[0], logps[1])).sum().backward()
        right.plot(p, -logps.grad[0], line, color=COLOUR["chosen"], label=f"pull on chosen, p(chosen) = {fixed}")
        right.plot(p, logps.grad[1], line, color=COLOUR["rejected"], label=f"push on rejected, p(chosen) = {fixed}")
    right.set_yscale("log")
    right.set(xlabel="p(rejected)", ylabel="|gradient| per nat", title="Who is pulled how hard")
    right.legend(fontsize=11)
    return figure


@styled
def plot_ratios(samples: int = 20000, seed: int = 0) -> Figure:
    """Log probability ratio against log odds ratio for uniform probabilities (arXiv 2403.07691, figure 6)."""
    figure, (axis,) = panels_of(1, width=8)
    p = torch.rand(2, samples, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6).log()
    bins = np.linspace(-10, 10, 81)
    for values, name, line, colour in (
        (p[0] - p[1], "log probability ratio", "--", COLOUR["sft"]),
        (log_odds(p[0]) - log_odds(p[1]), "log odds ratio", "-", COLOUR["orpo"]),
    ):
        axis.hist(
            values.numpy(),
            bins,
            histtype="step",
            linestyle=line,
            color=colour,
            label=name,
            density=True,
            lw=2.2,
        )
    axis.set(xlabel="nats", ylabel="density", title="Odds ratios spread wider than probability ratios")
    axis.legend()
    return figure


@styled
def plot_beta(betas=(0.1, 0.5, 1.0, 2.0)) -> Figure:
    """The push on the rejected log-prob against the margin of log-odds, for several β."""
    figure, (axis,) = panels_of(1, width=8)
    chosen = torch.linspace(0.02, 0.9, 200).log()
    rejected = torch.full_like(chosen, 0.2).log().requires_grad_()
    colours = (COLOUR["base"], COLOUR["sft"], COLOUR["chosen"], COLOUR["orpo"])
    for beta, line, colour in zip(betas, ("-", "--", "-.", ":"), colours, strict=True):
        (gradient,) = torch.autograd.grad(beta * odds_ratio_loss(chosen, rejected).sum(), rejected)
        axis.plot(chosen.exp(), gradient, line, color=colour, label=f"β = {beta:g}")
    axis.axvline(0.2, color="#888888", linewidth=1)
    axis.annotate("p(chosen) = p(rejected)", (0.2, axis.get_ylim()[1]), xytext=(6, -26), textcoords="offset points")
    axis.set(
        xlabel="p(chosen), with p(rejected) = 0.2",
        ylabel="push on rejected",
        title="β scales the push; a won pair is left alone",
    )
    axis.legend()
    return figure


# ── the techniques ──────────────────────────────────────────────────────────────────────────────────────────

TECHNIQUES = {
    "SFT": [[("policy", True)]],
    "RLHF": [
        [("policy", True)],
        [("reward model", True)],
        [("policy", True), ("reference", False), ("reward model", False)],
    ],
    "DPO": [[("policy", True)], [("policy", True), ("reference", False)]],
    "ORPO": [[("policy", True)]],
}
STAGES = {
    "SFT": ["chosen answers"],
    "RLHF": ["1 · SFT", "2 · preference pairs", "3 · policy optimisation (PPO holds a value model too)"],
    "DPO": ["1 · SFT", "2 · preference pairs"],
    "ORPO": ["preference pairs"],
}


@styled
def plot_techniques() -> Figure:
    """Which models each technique holds in memory at each stage: filled boxes learn, hatched ones are frozen."""
    figure, axis = plt.subplots(figsize=(12, 5.4), layout="constrained")
    for row, (technique, stages) in enumerate(TECHNIQUES.items()):
        y = -1.25 * row
        axis.text(-0.25, y + 0.4, technique, ha="right", va="center", fontsize=17, weight="bold")
        x = 0.0
        for title, models in zip(STAGES[technique], stages, strict=True):
            axis.text(x, y + 0.88, title, fontsize=12, va="bottom")
            for name, learns in models:
                face, hatch = ("#0072B2", None) if learns else ("#E8E8E8", "//")
                axis.add_patch(plt.Rectangle((x, y), 1.3, 0.78, facecolor=face, edgecolor="#333333", hatch=hatch))
                box = None if learns else {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axis.text(
                    x + 0.65, y + 0.39, name, ha="center", va="center", color="white" if learns else "black", bbox=box
                )
                x += 1.4
            x += 0.45
    axis.set(xlim=(-1.2, 9.2), ylim=(-4.0, 1.5))
    axis.set_title("Models in memory at each stage (blue: trained, hatched: frozen)")
    axis.axis("off")
    return figure
