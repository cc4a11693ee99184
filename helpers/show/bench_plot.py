"""A recorded benchmark as a picture."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from helpers.evaluation.methods import TRAINERS
from helpers.show.style import styled


@styled
def plot_bench(bench: dict) -> Figure:
    """A recorded benchmark: seconds and memory of a step by method; how ours and TRL's grow with pairs and shapes."""
    figure, ((speed, memory), (pairs, shapes)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    _bench_bars(speed, bench["full"], _step_seconds)
    _bench_bars(memory, bench["full"], lambda record: record["peak_bytes_above_model"] / 2**30)
    speed.set(title="Seconds a step (8 pairs)", xlabel="seconds")
    memory.set(title="Peak memory above the model", xlabel="GiB")
    for method, line in (("ours", "-"), ("trl", "--")):
        look = TRAINERS[method]
        rows = [record for record in bench["pairs"] if record["case"]["method"] == method]
        at = [record["case"]["pairs"] for record in rows]
        seconds = [_step_seconds(record) for record in rows]
        pairs.plot(at, seconds, line, label=look.label, **look.points)
    pairs.set(title="Growth with pairs", xlabel="pairs a step", ylabel="seconds a step")
    pairs.legend()
    _bench_shapes(shapes, bench["shapes"])
    return figure


def _step_seconds(record: dict) -> float:
    return record["case"]["pairs"] / record["pairs_per_second"]


def _bench_bars(axis, records: list[dict], value) -> None:
    for y, record in enumerate(reversed(records)):
        look = TRAINERS[record["case"]["method"]]
        axis.barh(y, value(record), **look.bars)
        axis.annotate(f"{value(record):.1f}", (value(record), y), xytext=(4, -4), textcoords="offset points")
    axis.set_yticks(range(len(records)), [TRAINERS[record["case"]["method"]].label for record in reversed(records)])
    axis.margins(x=0.12)


def _bench_shapes(axis, records: list[dict]) -> None:
    """Grouped bars: ours and TRL's for each length of prompt and response."""
    for side, method in ((-0.2, "ours"), (0.2, "trl")):
        look = TRAINERS[method]
        rows = [record for record in records if record["case"]["method"] == method]
        seconds = [_step_seconds(record) for record in rows]
        axis.bar(np.arange(len(rows)) + side, seconds, 0.4, label=look.label, **look.bars)
    labels = [f"{row['case']['prompt_tokens']} + {row['case']['response_tokens']}" for row in rows]
    axis.set_xticks(range(len(rows)), labels)
    axis.set(
        title="Growth with prompt and length", xlabel="prompt + response tokens", ylabel="seconds a step (4 pairs)"
    )
    axis.legend()
