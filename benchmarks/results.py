"""Recorded benchmarks (docs/results/bench-*.json): the table of the README, made from the file."""

import numpy as np

from helpers.evaluation import interval_text, markdown_table
from helpers.runs import provenance, read_recorded

NAMES = {
    "ours": "**ours**: shared rows, logits in blocks",
    "ours-rows": "ours, two rows a pair, logits in blocks",
    "textbook": "ours, two rows a pair, all logits",
    "trl": "trl.ORPOTrainer",
    "liger": "Liger-Kernel's ORPO loss",
    "sft": "trl.SFTTrainer, chosen answers only, in padded rows",
}


def recorded_bench(accelerator: str = "cpu") -> dict:
    """The recorded benchmark; a FileNotFoundError says how to make one."""
    return read_recorded(f"bench-{accelerator}.json", f"benchmark of {accelerator}", "make bench")[0]


def table(bench: dict) -> str:
    """Markdown: each method against TRL's ORPO trainer in the same run, and what else was measured beside it."""
    trl = of(bench["full"], "trl")
    head = ["a step on 8 pairs", "pairs a second", "against TRL", "peak memory above the model", "against TRL"]
    rows = []
    for record in bench["full"]:
        low, middle, high = times_as_fast(record, trl)
        memory, speed = record["peak_bytes_above_model"], f"{record['pairs_per_second']:.2f}"
        faster = interval_text(middle, (low, high), ".2f", unit=" ×")
        leaner = memory / trl["peak_bytes_above_model"]
        rows.append([NAMES[record["case"]["method"]], speed, faster, f"{memory / 2**30:.2f} GiB", f"{leaner:.2f} ×"])
    return "\n".join([markdown_table(head, rows), "", *remarks(bench)])


def times_as_fast(record: dict, other: dict) -> tuple[float, float, float]:
    """How many times as fast as another: lower quartile, median and upper quartile over the rounds.

    In a round the two took turns, so that a busy moment hit both; a ratio of medians would compare different moments.
    """
    ratios = [theirs / ours for ours, theirs in zip(record["seconds"], other["seconds"], strict=True)]
    return tuple(float(bound) for bound in np.percentile(ratios, [25, 50, 75]))


def remarks(bench: dict) -> list[str]:
    """One line for each of the smaller comparisons."""
    ours, sft = of(bench["full"], "ours"), of(bench["full"], "sft")
    lines = [
        f"An ORPO step takes {1 / times_as_fast(ours, sft)[1]:.2f} times TRL's SFT step on the chosen answers alone:",
        f"{ours['row_tokens']:.0f} positions, what is shared laid out once, against {sft['row_tokens']:.0f}, padded.",
        f"It uses {ours['utilisation']:.0%} of the machine's float32 matrix-product peak, measured between the steps.",
    ]
    if "layouts" in bench:
        ours, chunked, textbook = (of(bench["layouts"], name) for name in ("ours", "ours-rows", "textbook"))
        lines += [
            f"It is {times_as_fast(ours, chunked)[1]:.2f} times as fast as two rows a pair with logits in blocks, and",
            f"{times_as_fast(ours, textbook)[1]:.2f} times as fast as two rows with all of them, the textbook way (the",
            "same pairs, put together by length).",
        ]
    if "lora" in bench:
        lora = times_as_fast(of(bench["lora"], "ours"), of(bench["lora"], "trl"))[1]
        exact, rounded = bench["precision"]
        off = abs(rounded["loss"] / exact["loss"] - 1)
        lines += [
            f"With the laptop profile's LoRA and 4 pairs: {lora:.2f} times TRL's pairs a second.",
            f"bf16 autocast makes our step {times_as_fast(rounded, exact)[1]:.2f} times as fast ("
            f"{rounded['utilisation']:.0%} of that format's peak), its first loss {off:.2%} off.",
            *where_it_gains(bench),
        ]
    return [*lines, "", f"*{origin(bench)}; {setting(bench)}*"]


def where_it_gains(bench: dict) -> list[str]:
    """The gain over TRL by pairs a step, and by tokens of prompt and answer: little where little is shared."""

    def gains(name: str) -> list[tuple[dict, float]]:
        records = bench[name]
        pairs = zip(records[::2], records[1::2], strict=True)  # ours and TRL's, by turns
        return [(ours["case"], times_as_fast(ours, trl)[1]) for ours, trl in pairs]

    by_pairs = ", ".join(f"{gain:.2f} × with {case['pairs']}" for case, gain in gains("pairs"))
    by_shape = ", ".join(
        f"{gain:.2f} × for {case['prompt_tokens']} + {case['response_tokens']}" for case, gain in gains("shapes")
    )
    used = [record["utilisation"] for record in bench["pairs"] if record["utilisation"]]
    return [
        f"By pairs a step: {by_pairs} ({min(used):.0%} to {max(used):.0%} of the matrix-product peak).",
        f"By tokens of prompt and answer, 4 pairs of random words: {by_shape}: the gain is what is shared.",
    ]


def recorded_kinds(accelerator: str = "cpu") -> dict:
    """The recorded benchmark of three kinds of pairs; a FileNotFoundError says how to make one."""
    return read_recorded(f"bench-{accelerator}-kinds.json", "benchmark of kinds of pairs", "make bench")[0]


def kinds_table(bench: dict) -> str:
    """Markdown: ours against TRL and Liger-Kernel, for every kind of pairs and way of training."""
    head = [
        "prompt + answer tokens",
        "pairs",
        "trained",
        "ours, pairs a second",
        "of the peak",
        "tokens, ours and TRL's",
    ]
    head += ["against TRL", "memory", "against Liger", "memory"]
    rows = []
    for group in bench["kinds"]:
        ours, trl = of(group, "ours"), of(group, "trl")
        row = [*case_cells(ours["case"]), f"{ours['pairs_per_second']:.2f}", f"{ours['utilisation']:.0%}"]
        row.append(f"{ours['row_tokens']:.0f}, {trl['row_tokens']:.0f}")
        for other in (trl, next((record for record in group if record["case"]["method"] == "liger"), None)):
            row += against(ours, other) if other else ["", ""]
        rows.append(row)
    notes = (f"median (quartiles) of {bench['rounds']} rounds by turns", "SmolLM2-135M, AdamW")
    speed = f", {bench['machine']['gflops']:.0f} GFLOP/s in float32, {bench['machine']['bf16_gflops']:.0f} in bf16"
    return f"{markdown_table(head, rows)}\n\n*{provenance('make bench', [bench], *notes, machine_note=speed)}*"


def case_cells(case: dict) -> list[str]:
    """Lengths, pairs a step, and how the weights are trained."""
    lengths = f"{case['prompt_tokens']} + {case['response_tokens']}" if case["prompt_tokens"] else "built-in domain"
    way = f"{'LoRA' if case['lora_rank'] else 'all weights'}, {'bf16' if case['bf16'] else 'float32'}"
    return [lengths, str(case["pairs"]), way]


def against(ours: dict, other: dict) -> list[str]:
    """How many times as fast, and with how much of its memory."""
    low, middle, high = times_as_fast(ours, other)
    memory = ours["peak_bytes_above_model"] / other["peak_bytes_above_model"]
    return [f"{interval_text(middle, (low, high), '.2f')} ×", f"{memory:.2f} ×"]


def long_table(bench: dict) -> str:
    """Markdown: ours beside each other method of its group, for every model and length of `--parts long`."""
    head = ["model", "tokens a row", "pairs a step", "beside", "ours, pairs a second", "ratio"]
    head.append("peak GiB, ours and theirs")
    rows = []
    for ours, other in ((group[0], other) for group in bench["long"] for other in group[1:]):
        case = ours["case"]
        shape = [case["model"], f"{case['prompt_tokens']} + {case['response_tokens']}", str(case["pairs"])]
        speed, ratio = f"{ours['pairs_per_second']:.2f}", f"{times_as_fast(ours, other)[1]:.2f} ×"
        peaks = ", ".join(f"{record['peak_bytes_above_model'] / 2**30:.1f}" for record in (ours, other))
        rows.append([*shape, NAMES[other["case"]["method"]], speed, ratio, peaks])
    notes = ("all weights trained, bf16, AdamW", f"median of {bench['rounds']} steps by turns")
    return f"{markdown_table(head, rows)}\n\n*{provenance('make bench', [bench], *notes)}*"


def setting(bench: dict) -> str:
    """On which model and data, how it was trained, and how many rounds the smaller comparisons had."""
    growth = f"; {len(bench['pairs'][0]['seconds'])} rounds for growth, LoRA and bf16" if "pairs" in bench else ""
    return f"SmolLM2-135M, all weights trained, float32, built-in domain, AdamW{growth}"


def origin(bench: dict) -> str:
    """From which command, machine and date the numbers came, in a line that fits under a figure."""
    speed = f", {bench['machine']['gflops']:.0f} GFLOP/s"
    return provenance("make bench", [bench], f"median of {bench['rounds']} rounds by turns", machine_note=speed)


def of(records: list[dict], method: str) -> dict:
    """The record of a method."""
    return next(record for record in records if record["case"]["method"] == method)
