"""How each method is named and drawn, in every table and figure: Okabe-Ito colours, and never colour alone."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Look:
    """A label, a colour, a marker for points and a hatch for bars (both as matplotlib writes them)."""

    label: str
    colour: str
    marker: str
    hatch: str = ""

    @property
    def points(self) -> dict:
        """matplotlib's arguments for lines and points."""
        return {"color": self.colour, "marker": self.marker}

    @property
    def bars(self) -> dict:
        """matplotlib's arguments for bars."""
        return {"color": self.colour, "hatch": self.hatch, "edgecolor": "white"}


METHODS = {
    "base": Look("base", "#555555", "s"),
    "sft": Look("SFT", "#E69F00", "o", "xx"),
    "orpo": Look("ORPO", "#0072B2", "^"),
    "dpo": Look("DPO", "#CC79A7", "v", "//"),
    "reward": Look("reward model", "#56B4E9", "D", ".."),
    "rlhf": Look("RLHF", "#56B4E9", "D", ".."),
}


def look(stage: str) -> Look:
    """The look of a stage: a method's, or for `variants/orpo-beta-0.1` that method's, labelled "ORPO beta 0.1"."""
    if stage in METHODS:
        return METHODS[stage]
    method, _, settings = stage.rsplit("/", 1)[-1].partition("-")
    told = re.sub(r"(?:^|-)([a-z_]{2,})-", r" \1 ", settings)
    return replace(METHODS[method], label=METHODS[method].label + told)


TRAINERS = {  # of a benchmark
    "ours": Look("ours", METHODS["orpo"].colour, "^"),
    "trl": Look("TRL ORPO", "#CC79A7", "o", "//"),
    "liger": Look("Liger ORPO", "#56B4E9", "D", ".."),
    "sft": Look("TRL SFT", METHODS["sft"].colour, "s", "xx"),
}
BASELINES = {  # without a language model: label, colour, and the line that marks one in a figure
    "shorter": ("the shorter answer", "#56B4E9", (0, (1, 3))),
    "word_matching": ("word matching", "#000000", (0, (1, 1))),
    "rare_words": ("rare words matched", "#009E73", (0, (5, 2, 1, 2))),
    "logistic_regression": ("logistic regression", "#D55E00", (0, (6, 2))),
    "rule_editor": ("editor by rule", "#D55E00", (0, (6, 2))),
    "word_editor": ("editor by learned words", "#009E73", (0, (5, 2, 1, 2))),
}
RULES = {
    "mean": "mean log-prob",
    "sum": "summed log-prob",
    "mean_question": "mean, minus that without a question",
    "sum_question": "sum, minus that without a question",
}
