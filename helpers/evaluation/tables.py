"""The comparison of base, SFT and ORPO as a Markdown table."""

ROWS = {
    "preference accuracy": lambda m: _percent(m["preference_accuracy"], m["preference_accuracy_ci95"]),
    "chosen log-prob": lambda m: f"{m['chosen_logp']:.2f}",
    "rejected log-prob": lambda m: f"{m['rejected_logp']:.2f}",
    "log odds ratio": lambda m: f"{m['log_odds_ratio']:.2f}",
    "perplexity of chosen": lambda m: f"{m['perplexity']:.1f}",
    "chrF of answers": lambda m: f"{m['chrf']:.1f} ({m['chrf_ci95'][0]:.1f} to {m['chrf_ci95'][1]:.1f})",
    "pairs trained on": lambda m: f"{m['pairs']}" if m.get("pairs") else "—",
    "training seconds": lambda m: f"{m['train_seconds']:.0f}" if m.get("train_seconds") else "—",
}


def comparison_table(methods: dict[str, dict]) -> str:
    """Markdown table of results.json's `methods`, one column a method, intervals in brackets."""
    names = {"base": "base", "sft": "SFT", "orpo": "ORPO", "dpo": "DPO", "rlhf": "RLHF"}
    head = ["held out", *(names.get(method, method) for method in methods)]
    rows = [[label, *(cell(result) for result in methods.values())] for label, cell in ROWS.items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[head[i].ljust(widths[i]) for i in range(len(head))], ["-" * width for width in widths]]
    lines += [[row[i].ljust(widths[i]) for i in range(len(head))] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(value: float, interval: list[float]) -> str:
    return f"{value:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"
