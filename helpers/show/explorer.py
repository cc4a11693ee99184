"""Sliders over the objective: a point on the loss surface, its two gradients, both ratios, and a recorded training."""

import io

import numpy as np
import torch

from helpers.objective.odds_ratio import log_odds, odds_ratio_loss
from helpers.runs.recorded import provenance_of_runs, recorded_runs
from helpers.show.notebook import show_widget
from helpers.show.objective_plots import draw_loss
from helpers.show.pages import follow, plain
from helpers.show.style import BIG_TEXT, GREY, SIDE_COLOUR, enlarged, is_big, panels_of, smallest_text, stamp, styled

STEP = 0.5  # nats of log-prob that an arrow goes for each nat of gradient
RATIOS = (0.1, 1000)  # of the axis that compares them
DPI, BIG_DPI = 80, 90  # the picture is shown as large as it is: 90 / 72 · BIG_TEXT are 24 pixels, which are 18 points
ARROW = {"arrowstyle": "-|>", "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}
ALT = "The ORPO loss over both probabilities, a point on it with an arrow for each gradient, and the two ratios as bars"


def gradients(chosen: float, rejected: float, beta: float) -> tuple[float, float, float]:
    """(β · L_OR, pull on the chosen log-prob, push on the rejected one) at mean token probabilities in (0, 1)."""
    logps = torch.tensor([chosen, rejected]).log().requires_grad_()
    odds_term = beta * odds_ratio_loss(logps[0], logps[1])
    (-logps[0] + odds_term).backward()
    return odds_term.item(), -logps.grad[0].item(), logps.grad[1].item()


def odds_ratio(chosen: float, rejected: float) -> float:
    """The odds of the chosen answer over those of the rejected one."""
    logps = torch.tensor([chosen, rejected]).log()
    return (log_odds(logps[0]) - log_odds(logps[1])).exp().item()


def odds_ratio_table(chosen: float, rejected: float, beta: float) -> str:
    """The objective at one point, as text: mean token probabilities in (0, 1) and β."""
    odds_term, pull, push = gradients(chosen, rejected, beta)
    nll = -np.log(chosen)
    return "\n".join(
        [
            f"odds ratio        {odds_ratio(chosen, rejected):8.2f}   (probability ratio {chosen / rejected:.2f})",
            f"NLL(chosen)       {nll:8.3f}",
            f"β · L_OR          {odds_term:8.3f}",
            f"L_ORPO            {nll + odds_term:8.3f}",
            f"pull on chosen    {pull:8.3f}   (nats of loss for each nat of log-prob)",
            f"push on rejected  {push:8.3f}",
        ]
    )


def recorded_path() -> tuple[list[tuple[float, float]], str]:
    """[(p(chosen), p(rejected)), …] that ORPO went through in the first recorded run, and where that comes from."""
    run = recorded_runs("laptop")[0]
    points = [(np.exp(record["chosen_logp"]), np.exp(record["rejected_logp"])) for record in run["monitor"]["orpo"]]
    return points, f"path: {provenance_of_runs([run])}"


class Picture:
    """A figure that is drawn once, and of which only what a slider changes is drawn again."""

    @styled
    def __init__(self, chosen: float, rejected: float, beta: float, path, source: str):
        self.big = is_big()
        self.figure, (self.plane, self.bars) = panels_of(2, width=6.0 if self.big else 5.4, height=3.9)
        self.beta, self.contours = None, None
        self.plane.plot(*zip(*path, strict=True), "-o", color=GREY, markersize=4, label="a recorded training")
        (self.point,) = self.plane.plot([], [], "o", color="black", markersize=7, zorder=3)
        self.arrows = {
            side: self.plane.annotate(
                "",
                xy=(0, 0),
                xytext=(0, 0),
                zorder=4,
                arrowprops={"color": SIDE_COLOUR[side], "linestyle": line} | ARROW,
            )
            for side, line in (("chosen", "-"), ("rejected", (0, (2, 1))))
        }
        ticks = (0, 0.5, 1) if self.big else np.linspace(0, 1, 6)
        self.plane.set(xlabel="p(chosen)", ylabel="p(rejected)", xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
        self.plane.legend(loc="upper left", fontsize=smallest_text(self.figure, DPI), frameon=True)
        self.columns = self.bars.barh(["probability\nratio", "odds\nratio"], [1, 1], left=1, color=[GREY, "black"])
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # a long bar would hide its number
        self.numbers = [self.bars.text(1, i, "", va="center", bbox=behind) for i in range(2)]
        self.bars.set(xscale="log", xlim=RATIOS, xlabel="chosen over rejected")
        self.bars.axvline(1, color=GREY, linewidth=1)
        self.bars.invert_yaxis()
        stamp(self.figure, source, DPI)
        self.move(chosen, rejected, beta)
        if self.big:
            enlarged(self.figure)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # a move changes no place; finding them takes a third of the time

    @styled
    def move(self, chosen: float, rejected: float, beta: float) -> None:
        """To other values of the sliders."""
        if beta != self.beta:
            self.draw_surface(beta)
        _, pull, push = gradients(chosen, rejected, beta)
        self.point.set_data([chosen], [rejected])
        ends = {"chosen": (min(chosen * np.exp(STEP * pull), 1), rejected)}
        ends["rejected"] = (chosen, rejected * np.exp(-STEP * push))
        for side, arrow in self.arrows.items():
            arrow.set_position((chosen, rejected))
            arrow.xy = ends[side]
        ratios = (chosen / rejected, odds_ratio(chosen, rejected))
        for bar, number, ratio in zip(self.columns, self.numbers, ratios, strict=True):
            bar.set_width(np.clip(ratio, *RATIOS) - 1)
            number.set_text(f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}")
            number.set_x(1.15 * max(np.clip(ratio, RATIOS[0], RATIOS[1] / 8), 1))

    def draw_surface(self, beta: float) -> None:
        """The contours of the loss for another β."""
        if self.contours is not None:
            self.contours.remove()
        self.contours = draw_loss(self.plane, beta, torch.linspace(0.02, 0.98, 49), linewidths=1.4)
        arrows = "solid: pull, dashed: push" if self.big else "solid: pull on chosen, dashed: push on rejected"
        self.plane.set_title(f"ORPO loss, β = {beta:g}\n{arrows}", fontsize=BIG_TEXT if self.big else 11)
        self.beta = beta

    def png(self) -> bytes:
        """As it stands."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=BIG_DPI if self.big else DPI, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()


def odds_ratio_explorer(beta: float = 1.0):
    """Show sliders for the two probabilities and β, a picture and `odds_ratio_table`; the ▶ button walks a recorded
    training. Returns the widget. Text in a terminal; where no kernel runs, the picture as it was.
    """
    import ipywidgets as widgets

    wide = widgets.Layout(width="min(100%, 640px)")  # so that a hundredth is more than a pixel

    def slider(label, value, low, high, step):
        return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=label, layout=wide)

    sliders = {
        "chosen": slider("p(chosen)", 0.3, 0.01, 0.99, 0.01),
        "rejected": slider("p(rejected)", 0.2, 0.01, 0.99, 0.01),
        "beta": slider("β", beta, 0.0, 4.0, 0.1),
    }
    path, source = recorded_path()
    picture = Picture(0.3, 0.2, beta, path, source)
    image = widgets.Image(value=picture.png(), format="png", layout=widgets.Layout(max_width="100%"))
    play = widgets.Play(min=0, max=len(path) - 1, interval=900, description="a recorded training")

    said = widgets.HTML(value=plain(odds_ratio_table(0.3, 0.2, beta)))

    def walked(change) -> None:
        sliders["chosen"].value, sliders["rejected"].value = path[change["new"]]

    def show_point(**values) -> None:
        picture.move(**values)
        image.value, said.value = picture.png(), plain(odds_ratio_table(**values))

    play.observe(walked, names="value")
    follow(sliders, show_point)
    walk = widgets.HBox([play, widgets.Label("walks through a recorded training, a measurement at a time")])
    box = widgets.VBox([*sliders.values(), walk, image, said])
    show_widget(box, odds_ratio_table(0.3, 0.2, beta), picture.png(), ALT)
    return box
