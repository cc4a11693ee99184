"""The objective as pictures: no run, no model, only the formula."""

import numpy as np
import torch
from matplotlib.figure import Figure

from helpers.evaluation.methods import METHODS
from helpers.objective.odds_ratio import log_odds, odds_ratio_loss
from helpers.show.style import GREY, SERIES_COLOURS, SERIES_LINES, SIDE_COLOUR, name_line, panels_of, styled


@styled
def plot_log_odds() -> Figure:
    """Log-prob and log-odds against probability: alike while p is small, far apart as p nears one."""
    figure, (axis,) = panels_of(1, width=8)
    p = torch.linspace(0.005, 0.995, 400)
    (logs,) = axis.plot(p, p.log(), "--", color=METHODS["sft"].colour, label="log p")
    (odds,) = axis.plot(p, log_odds(p.log()), "-", color=METHODS["orpo"].colour, label="log-odds = log p − log(1 − p)")
    axis.axhline(0, color=GREY, linewidth=1)
    axis.set(xlabel="mean token probability p", ylabel="nats", title="Odds tell 0.9 from 0.99; log p hardly does")
    name_line(axis, logs, at=300, shift=(4, -16))
    name_line(axis, odds, at=380, shift=(-16, 0), ha="right")
    return figure


@styled
def plot_loss(beta: float) -> Figure:
    """L_ORPO over (p chosen, p rejected) as contours, and how hard it pulls on either log-prob."""
    figure, (left, right) = panels_of(2)
    p = torch.linspace(0.01, 0.99, 99)
    contour = draw_loss(left, beta, p)
    left.clabel(contour, fontsize=11, fmt="%.1f", colors="black")
    left.set(xlabel="p(chosen)", ylabel="p(rejected)", title=f"ORPO loss, β = {beta:g}")
    for fixed, line in ((0.05, "-"), (0.3, "--"), (0.7, ":")):
        logps = torch.stack([torch.full_like(p, fixed).log(), p.log()]).requires_grad_()
        (-logps[0] + beta * odds_ratio_loss(logps[0], logps[1])).sum().backward()
        right.plot(p, -logps.grad[0], line, color=SIDE_COLOUR["chosen"], label=f"pull on chosen, p(chosen) = {fixed}")
        right.plot(
            p,
            logps.grad[1],
            line,
            color=SIDE_COLOUR["rejected"],
            marker="o",  # without colours the two sides are as dark as each other
            markevery=14,
            markerfacecolor="white",
            label=f"push on rejected, p(chosen) = {fixed}",
        )
    right.set_yscale("log")
    right.set(xlabel="p(rejected)", ylabel="|gradient| per nat", title="Who is pulled how hard")
    right.legend(fontsize=11)
    return figure


def draw_loss(axis, beta: float, p: torch.Tensor, **look):
    """Contours of L_ORPO on an axis, at the probabilities p (n,) of either answer; as much room between any two."""
    chosen, rejected = torch.meshgrid(p, p, indexing="xy")
    loss = -chosen.log() + beta * odds_ratio_loss(chosen.log(), rejected.log())
    levels = np.unique(np.quantile(loss, np.linspace(0.06, 0.86, 9)).round(1))
    return axis.contour(p, p, loss, levels=levels, cmap="viridis", **look)


@styled
def plot_ratios(samples: int = 20000, seed: int = 0) -> Figure:
    """Log probability ratio against log odds ratio for uniform probabilities (arXiv 2403.07691, figure 6)."""
    figure, (axis,) = panels_of(1, width=8)
    p = torch.rand(2, samples, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6).log()
    bins = np.linspace(-10, 10, 81)
    for values, name, line, colour in (
        (p[0] - p[1], "log probability ratio", "--", METHODS["sft"].colour),
        (log_odds(p[0]) - log_odds(p[1]), "log odds ratio", "-", METHODS["orpo"].colour),
    ):
        look = {"histtype": "step", "linestyle": line, "color": colour, "linewidth": 2.2}
        axis.hist(values.numpy(), bins, label=name, density=True, **look)
    axis.set(xlabel="nats", ylabel="density", title="Odds ratios spread wider than probability ratios")
    axis.legend()
    return figure


@styled
def plot_beta(betas=(0.1, 0.5, 1.0, 2.0)) -> Figure:
    """The push on the rejected log-prob against the margin of log-odds, for several β."""
    figure, (axis,) = panels_of(1, width=8)
    chosen = torch.linspace(0.02, 0.9, 200).log()
    rejected = torch.full_like(chosen, 0.2).log().requires_grad_()
    for beta, line, colour in zip(betas, SERIES_LINES, SERIES_COLOURS, strict=False):
        (gradient,) = torch.autograd.grad(beta * odds_ratio_loss(chosen, rejected).sum(), rejected)
        (curve,) = axis.plot(chosen.exp(), gradient, line, color=colour, label=f"β = {beta:g}")
        name_line(axis, curve, at=48, shift=(0, 9), ha="left")
    axis.axvline(0.2, color=GREY, linewidth=1)
    axis.annotate("p(chosen) = p(rejected)", (0.2, axis.get_ylim()[1]), xytext=(6, -26), textcoords="offset points")
    axis.set(
        xlabel="p(chosen), with p(rejected) = 0.2",
        ylabel="push on rejected",
        title="β scales the push, which fades as the pair is won",
    )
    return figure
