"""Recorded benchmarks (docs/results/bench-*.json): the table of the README, made from the file."""

import json

from helpers.cache import REPOSITORY
from helpers.runs import machine_text

NAMES = {
    "ours": "**ours**: shared rows, no logits kept",
    "ours-flex": "ours with FlexAttention",
    "ours-rows": "ours, two rows a pair, no logits kept",
    "textbook": "ours, two rows a pair, all logits",
    "trl": "trl.ORPOTrainer",
    "liger": "Liger-Kernel's ORPO loss",
    "sft": "trl.SFTTrainer, chosen answers only",
}


def recorded_bench(accelerator: str = "cpu") -> dict:
    """The recorded benchmark; a FileNotFoundError says how to make one."""
    path = REPOSITORY / "docs" / "results" / f"bench-{accelerator}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no recorded benchmark {path.name}: make bench")
    return json.loads(path.read_text(encoding="utf-8"))


def table(bench: dict) -> str:
    """Markdown: each method against TRL's ORPO trainer in the same run, and what else was measured beside it."""
    records = bench["full"]
    trl = of(records, "trl")
    lines = ["| a step on 8 pairs | pairs a second | against TRL | peak memory above the model | against TRL |"]
    lines.append("|---|---|---|---|---|")
    for record in records:
        speed, memory = record["pairs_per_second"], record["peak_bytes_above_model"]
        lines.append(
            f"| {NAMES[record['case']['method']]} | {speed:.2f} | {speed / trl['pairs_per_second']:.2f} × | "
            f"{memory / 2**30:.2f} GiB | {memory / trl['peak_bytes_above_model']:.2f} × |"
        )
    return "\n".join([*lines, "", *remarks(bench)])


def remarks(bench: dict) -> list[str]:
    """One line for each of the smaller comparisons."""
    ours, sft = of(bench["full"], "ours"), of(bench["full"], "sft")
    against_sft = sft["pairs_per_second"] / ours["pairs_per_second"]
    lines = [
        f"An ORPO step takes {against_sft:.2f} times TRL's SFT step on the chosen answers alone. It uses",
        f"{ours['utilisation']:.0%} of the machine's float32 matrix-product peak, measured between the steps.",
    ]
    if "layouts" in bench:
        ours, lean, textbook = (of(bench["layouts"], name) for name in ("ours", "ours-rows", "textbook"))
        unshared, all_logits = (ours["pairs_per_second"] / other["pairs_per_second"] for other in (lean, textbook))
        lines += [
            f"It is {unshared:.2f} times as fast as two rows a pair without logits, and {all_logits:.2f} times",
            "as fast as two rows with all of them, the textbook way.",
        ]
    if "lora" in bench:
        lora = of(bench["lora"], "ours")["pairs_per_second"] / of(bench["lora"], "trl")["pairs_per_second"]
        exact, rounded = bench["precision"]
        gain = rounded["pairs_per_second"] / exact["pairs_per_second"]
        off = abs(rounded["loss"] / exact["loss"] - 1)
        steps = len(exact["seconds"])
        lines += [
            f"With the laptop profile's LoRA and 4 pairs: {lora:.2f} times TRL's pairs a second.",
            f"bf16 autocast makes our step {gain:.2f} times as fast, its first loss {off:.2%} off",
            f"(both from {steps} steps only).",
        ]
    return [*lines, "", f"*{provenance(bench)}*"]


def long_table(bench: dict) -> str:
    """Markdown: ours with SDPA beside each other method of its group, for every model and length."""
    lines = [
        "| model | tokens a row | pairs a step | beside | ours, pairs a second | ratio | peak GiB, ours and theirs |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for ours, other in ((group[0], other) for group in bench["long"] for other in group[1:]):
        case, speed, method = ours["case"], ours["pairs_per_second"], NAMES[other["case"]["method"]]
        shape = f"{case['model']} | {case['prompt_tokens']} + {case['response_tokens']} | {case['pairs']}"
        ratio = speed / other["pairs_per_second"]
        peaks = ", ".join(f"{record['peak_bytes_above_model'] / 2**30:.1f}" for record in (ours, other))
        lines.append(f"| {shape} | {method} | {speed:.2f} | {ratio:.2f} × | {peaks} |")
    machine, steps = machine_text(bench["machine"]), bench["rounds"]
    setting = f"all weights trained, bf16, AdamW · median of {steps} steps by turns"
    return "\n".join([*lines, "", f"*make bench · {machine} · {setting} · {bench['date'][:10]}*"])


def provenance(bench: dict) -> str:
    """From which command, machine, setting and date these numbers came."""
    machine = machine_text(bench["machine"])
    setting = "SmolLM2-135M, all weights trained, float32, built-in domain, AdamW"
    return f"make bench · {machine} · {setting} · median of {bench['rounds']} steps by turns · {bench['date'][:10]}"


def of(records: list[dict], method: str) -> dict:
    """The record of a method."""
    return next(record for record in records if record["case"]["method"] == method)
