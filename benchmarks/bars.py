"""What a step was meant to reach, beside what the recorded benchmarks say: held, or missed and why.

The bars stand here alone: `make figures` writes the table to docs/results.md, and tests/test_benchmarks.py says which
bars are held.
"""

from dataclasses import dataclass

from benchmarks.results import case_cells, of, times_as_fast
from helpers.evaluation import markdown_table


@dataclass(frozen=True)
class Bar:
    """One aim. `form` writes its numbers; `most`: it is an upper bound."""

    what: str
    where: str
    aim: float
    recorded: float
    form: str
    most: bool = False

    @property
    def held(self) -> bool:
        return self.recorded <= self.aim if self.most else self.recorded >= self.aim


def bars(bench: dict, kinds: dict) -> list[Bar]:
    """All bars, from the main comparison and from the kinds of pairs."""
    ours, trl, sft = (of(bench["full"], method) for method in ("ours", "trl", "sft"))
    found = [
        Bar("times as fast as TRL", where(ours), 2.5, times_as_fast(ours, trl)[1], ".2f"),
        Bar("memory, in TRL's", where(ours), 0.6, memory(ours, trl), ".2f", most=True),
        Bar("duration, in that of an SFT step", where(ours), 1.3, 1 / times_as_fast(ours, sft)[1], ".2f", most=True),
        Bar("share of the matrix-product peak", where(ours), 0.6, ours["utilisation"], ".0%"),
    ]
    even, lora = group_of(kinds, prompt_tokens=45), group_of(kinds, lora_rank=16, bf16=True)
    for group, aim in ((even, 2.2), (lora, 3.2)):
        ours, trl = of(group, "ours"), of(group, "trl")
        found.append(Bar("times as fast as TRL", where(ours), aim, times_as_fast(ours, trl)[1], ".2f"))
    found.append(Bar("memory, in TRL's", where(ours), 0.4, memory(ours, trl), ".2f", most=True))
    for group in (group_of(kinds, bf16=True), lora):
        ours = of(group, "ours")
        found.append(Bar("share of the matrix-product peak", where(ours), 0.5, ours["utilisation"], ".0%"))
    return found


def where(record: dict) -> str:
    """The pairs of a record, and how the weights were trained."""
    return ", ".join(case_cells(record["case"])[::2])


def memory(ours: dict, other: dict) -> float:
    """Peak memory above the model, in that of the other."""
    return ours["peak_bytes_above_model"] / other["peak_bytes_above_model"]


def group_of(kinds: dict, **case) -> list[dict]:
    """The records of one kind of pairs in one way of training: plain but for `case`."""
    wanted = {"prompt_tokens": None, "lora_rank": 0, "bf16": False} | case
    return next(group for group in kinds["kinds"] if wanted.items() <= group[0]["case"].items())


def bars_table(bench: dict, kinds: dict) -> str:
    """Markdown: every bar, and why the ratio to TRL falls short where both multiply faster."""
    rows = []
    for bar in bars(bench, kinds):
        aim = f"at {'most' if bar.most else 'least'} {bar.aim:{bar.form}}"
        rows.append([bar.what, bar.where, aim, f"{bar.recorded:{bar.form}}", "held" if bar.held else "**missed**"])
    return f"{markdown_table(['a step', 'pairs, trained', 'bar', 'recorded', ''], rows)}\n\n{gain_of_bf16(kinds)}"


def gain_of_bf16(kinds: dict) -> str:
    """How much bf16 autocast gains for our LoRA step and for TRL's, on the built-in pairs."""
    slow, fast = group_of(kinds, lora_rank=16), group_of(kinds, lora_rank=16, bf16=True)
    gains = [of(fast, name)["pairs_per_second"] / of(slow, name)["pairs_per_second"] for name in ("ours", "trl")]
    tokens = of(fast, "trl")["row_tokens"] / of(fast, "ours")["row_tokens"]
    return (
        f"With LoRA, bf16 autocast makes our step {gains[0]:.2f} times as fast, and TRL's {gains[1]:.2f} times. "
        f"TRL's rows have {tokens:.2f} times our positions."
    )
