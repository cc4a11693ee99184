"""Sliders over a plan: model, length, batch and cores, and the memory of a core as stacked bars."""

import io

import matplotlib.pyplot as plt

from helpers.show.notebook import show_widget
from helpers.show.pages import follow, plain
from helpers.show.plan_plots import plans_text, plot_plans
from helpers.training.sizes import CONFIGS

SMALL, LARGE = "ml.trn1.2xlarge", "ml.trn1.32xlarge"
CORES = (1, 2, 4, 8, 16, 32)
METHODS = {"SFT": "sft", "ORPO": "orpo", "DPO": "dpo"}


def plans_of(plan, model: str, length: int, batch: int, cores: int, lora: bool, recompute: bool) -> dict:
    """{name: plan} of SFT, ORPO and DPO; `cores` share one copy of the model, on the smallest Trn1 that has them."""
    arguments = {"max_length": length, "batch": batch, "tensor_parallel": cores, "recompute": recompute}
    arguments |= {"instance": SMALL if cores <= 2 else LARGE, "lora_rank": 16 if lora else 0, "pairs": 4096}
    return {name: plan(model, method=method, **arguments) for name, method in METHODS.items()}


def plan_text(plans: dict) -> str:
    """The plans in words: memory, whether it fits, and the smallest change."""
    orpo = plans["ORPO"]
    lines = [plans_text(plans), *(f"note: {note}" for note in orpo.notes)]
    return "\n".join(lines + ([] if orpo.fits else [f"ORPO: {orpo.change}"]))


def picture(plans: dict) -> bytes:
    """The stacked bars as a PNG."""
    figure, buffer = plot_plans(plans), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    plt.close(figure)
    return buffer.getvalue()


def plan_explorer(plan, model: str = "Qwen3-0.6B", length: int = 512, batch: int = 4, cores: int = 2):
    """Show sliders for model, length, batch and cores, and the memory of a core as bars. Returns the widget.

    plan: `helpers.sagemaker.plan`. Text in a terminal; where no kernel runs, the picture as it was.
    """
    import ipywidgets as widgets

    wide = widgets.Layout(width="min(100%, 640px)")
    names = [name.split("/")[-1] for name in CONFIGS]

    def slider(label, options, value):
        look = {"layout": wide, "style": {"description_width": "5em"}}
        return widgets.SelectionSlider(options=options, value=value, description=label, **look)

    sliders = {
        "model": slider("model", names, model),
        "length": slider("length", [2**power for power in range(6, 14)], length),
        "batch": slider("batch", [2**power for power in range(8)], batch),
        "cores": slider("cores", CORES, cores),
        "lora": widgets.Checkbox(value=True, description="LoRA of rank 16, else all weights"),
        "recompute": widgets.Checkbox(value=False, description="recompute activations"),
    }
    plans = plans_of(plan, **{name: each.value for name, each in sliders.items()})
    bars, told = picture(plans), widgets.HTML(value=plain(plan_text(plans)))
    image = widgets.Image(value=bars, format="png", layout=widgets.Layout(max_width="100%"))

    def show_plan(**values) -> None:
        try:
            plans = plans_of(plan, **values)
        except ValueError as error:  # a number of cores that does not divide this model's heads
            told.value = plain(str(error))
            return
        image.value, told.value = picture(plans), plain(plan_text(plans))

    follow(sliders, show_plan)
    box = widgets.VBox([*sliders.values(), image, told])
    show_widget(box, plan_text(plans), bars, plans_text(plans))
    return box
