"""What several notebooks share: training arguments, one evaluation for all methods, and showing things."""

import html
import io
import re
import time
from collections import Counter

import botocore
import torch
from IPython.display import HTML, Image, display
from peft import LoraConfig
from tqdm.auto import tqdm

from helpers.evaluation import PairScores, chrf_with_ci, generate_answers, measure_pairs
from helpers.layouts import why_not_shared
from helpers.logprobs import pair_logps
from helpers.models import find_base_model
from helpers.odds_ratio import orpo_loss
from helpers.preferences import PreferenceCollator, tokenize_preferences
from helpers.runs import fast_bf16, peak_memory_bytes, read_json, write_json

PAIRS_A_BATCH = 8


def training_arguments(profile, run, stage) -> dict:
    """The keyword arguments that SFT and ORPO share, so that only the objective differs between the two runs.

    Where the run's machine multiplies faster in bf16, both train under autocast: weights and sums stay float32.
    """
    return {
        "output_dir": str(stage.checkpoints),
        "max_steps": profile.steps,
        "per_device_train_batch_size": profile.pairs_per_step,
        "learning_rate": profile.learning_rate,
        "warmup_steps": max(1, profile.steps // 20),
        "max_length": profile.max_length,
        "logging_steps": 1,
        "save_steps": profile.save_every,
        "save_total_limit": 1,
        "seed": profile.seed,
        "optim": "adamw_torch_fused",
        "bf16": fast_bf16(run.results["machine"]),
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "disable_tqdm": True,  # LiveMonitor shows the progress
        "report_to": [],
    }


def lora(profile) -> LoraConfig:
    """Train small matrices beside every linear layer of the frozen base: a third less work a step, and no optimizer
    state for the base (LoRA, arXiv 2106.09685). The scale is alpha / rank = 2."""
    rank = profile.lora_rank
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def merged_model(trainer, stage):
    """The trained model as one ordinary model, the adapter's matrices added to the base's; saved to the stage."""
    model = trainer.model.merge_and_unload()
    model.save_pretrained(stage.model_path)
    trainer.processing_class.save_pretrained(stage.model_path)
    return model


def stage_settings(profile, run, method: str) -> dict:
    """What decides a training run: a stopped one is resumed only if all of it is unchanged."""
    names = (
        "model train_pairs max_length steps pairs_per_step learning_rate lora_rank beta monitor_every save_every seed"
    )
    settings = {name: getattr(profile, name) for name in names.split()}
    return {"method": method, "bf16": fast_bf16(run.results["machine"])} | settings


def heldout_batches(dataset, model, tokenizer, max_length: int) -> list[dict]:
    """Collated batches of a held-out set, in the fastest layout that is right for the model."""
    tokenized = tokenize_preferences(dataset, tokenizer, max_length)
    layout = "rows" if why_not_shared(model, tokenized, max_length) else "shared"
    collate, rows = PreferenceCollator(tokenizer.pad_token_id, layout), list(tokenized)
    return [collate(rows[start : start + PAIRS_A_BATCH]) for start in range(0, len(rows), PAIRS_A_BATCH)]


def price_of_a_step(trainer, pairs) -> dict[str, tuple[float, float]]:
    """{way: (loss, seconds)} of one forward and backward pass: as in a textbook, and as this ORPOTrainer does it."""
    args, tokenizer = trainer.args, trainer.processing_class
    rows = list(tokenize_preferences(pairs, tokenizer, args.max_length))
    ways = {"textbook: two rows, all logits": ("rows", False), "this trainer": (args.layout, trainer.lean)}
    measured = {}
    for timed in (False, True, True):  # a round to warm up, then two, since one alone may meet a busy moment
        for name, (layout, lean) in ways.items():
            batch = trainer._prepare_inputs(PreferenceCollator(tokenizer.pad_token_id, layout)(rows))
            started = time.perf_counter()
            chosen, rejected = pair_logps(trainer.model, batch, lean)
            loss = orpo_loss(-chosen, chosen, rejected, args.beta)
            loss.backward()
            shown = loss.item()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            trainer.model.zero_grad()
            if timed:
                measured[name] = (shown, min(seconds, measured.get(name, (0, seconds))[1]))
    return measured


def evaluate(run, method: str, model, tokenizer, heldout, profile, training: dict | None = None) -> dict:
    """Measure a model on the held-out pairs, store it under `method` in the run folder, return its results.

    `training` (from `training_summary`) is stored with them.
    """
    result = measure_heldout(run.stage(method), method, model, tokenizer, heldout, profile)
    untrained = {"steps": 0, "train_seconds": 0.0, "train_tokens_per_second": None}
    result |= {"peak_memory_bytes": peak_memory_bytes()} | untrained | (training or {})
    run.write_results(methods={method: result})
    return result


def measure_heldout(stage, method: str, model, tokenizer, heldout, profile) -> dict:
    """Log-probs of the held-out pairs and chrF of greedy answers to the first `generation_prompts` of them.

    The scores of every pair and the answers go to heldout.json in the stage.
    """
    batches = heldout_batches(heldout, model, tokenizer, profile.max_length)
    scores = measure_pairs(model, tqdm(batches, desc=f"{method}: log-probs"), list(heldout["service"]))
    asked = heldout.select(range(min(profile.generation_prompts, len(heldout))))
    answers = generate_answers(model, tokenizer, asked["prompt"], profile.max_new_tokens, desc=f"{method}: answers")
    chrf, chrf_ci95 = chrf_with_ci(answers, references(asked), profile.seed, list(asked["service"]))
    store_heldout(stage, scores, answers)
    heldout_chrf = {"chrf": chrf, "chrf_ci95": chrf_ci95, "chrf_n": len(asked), "seed": profile.seed}
    return scores.summary(profile.seed) | heldout_chrf


def store_heldout(stage, scores: PairScores, answers: list[str]) -> None:
    """Keep the score of every pair, so that later comparisons can be paired."""
    parts = {"chosen_logp": scores.chosen_logp.tolist(), "rejected_logp": scores.rejected_logp.tolist()}
    write_json(stage.path / "heldout.json", parts | {"groups": scores.groups, "answers": answers})


def load_heldout(run, method: str) -> tuple[PairScores, list[str]]:
    """Scores and answers that `evaluate` stored; a FileNotFoundError names the notebook to run first."""
    import numpy as np

    run.require(method)
    stored = read_json(run.path / method / "heldout.json")
    logps = [np.array(stored[name], dtype=np.float32) for name in ("chosen_logp", "rejected_logp")]
    return PairScores(*logps, stored["groups"]), stored["answers"]


def training_summary(trainer, monitor, profile) -> dict:
    """Seconds of training alone (the live measurements taken out), tokens a second, steps, memory."""
    seconds = trainer.state.log_history[-1]["train_runtime"] - monitor.seconds_spent
    steps = trainer.state.global_step - monitor.first_step  # a resumed run is timed from where it resumed
    whole_run = seconds / steps * profile.steps if steps else None
    columns = [name for name in ("input_ids", "chosen_input_ids") if name in trainer.train_dataset.column_names]
    tokens = sum(len(ids) for ids in trainer.train_dataset[columns[0]])
    return {
        "train_seconds": whole_run,
        "train_tokens_per_second": tokens / whole_run if whole_run else None,
        "resumed_from_step": monitor.first_step,
        "precision": "bf16 autocast" if trainer.args.bf16 else "float32",
        "layout": getattr(trainer.args, "layout", "rows"),
        "steps": trainer.state.global_step,
        "pairs": trainer.state.global_step * profile.pairs_per_step,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def references(dataset) -> list[str]:
    """The chosen answers as plain text."""
    return [chosen[-1]["content"] for chosen in dataset["chosen"]]


# ── showing ─────────────────────────────────────────────────────────────────────────────────────────────────


def show(figure, alt: str) -> None:
    """Show a matplotlib figure with a text for those who can't see it, and close it."""
    display(figure_image(figure, alt))


def figure_image(figure, alt: str) -> Image:
    """The figure as a PNG that carries its alt text into the notebook's output metadata."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return Image(buffer.getvalue(), format="png", alt=alt)


def show_answers(dataset, answers: dict[str, list[str]]) -> None:
    """Question, right answer and what each model said, side by side."""
    head = "".join(
        f"<th style='text-align:left'>{html.escape(name)}</th>" for name in ("question", "documentation", *answers)
    )
    rows = []
    for i, (prompt, reference) in enumerate(zip(dataset["prompt"], references(dataset), strict=True)):
        cells = [prompt[-1]["content"], reference, *(said[i] or "(nothing)" for said in answers.values())]
        rows.append("".join(f"<td style='text-align:left;vertical-align:top'>{as_html(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    display(HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"))


def as_html(text: str) -> str:
    """Escaped text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def draw_monitor(method: str, **others):
    """For LiveMonitor: records of `method` → figure, beside the finished stages given by name (sft=stage)."""
    from helpers.plots import plot_monitor

    def draw(records: list[dict]) -> Image:
        recorded = {name: stage.read_monitor() for name, stage in others.items()} | {method: records}
        return figure_image(
            plot_monitor(recorded, faint=tuple(others)),
            "Held-out log-probs of chosen and rejected answers while training",
        )

    return draw


def run_stamp(run) -> str:
    """From which run, machine and date a figure came."""
    results = run.results
    machine = results["machine"]
    return f"run {run.path.name} · {machine['cpu']}, {machine['cores']} cores · {results['date'][:10]}"


def accuracy_by_kind(run, heldout) -> dict[str, dict]:
    """Preference accuracy of every measured method for each kind of rejected answer, and how many pairs it has."""
    kinds = list(heldout["rejected_kind"])
    rows = {}
    for kind in sorted(set(kinds)):
        of_kind = [other == kind for other in kinds]
        wins = {method: load_heldout(run, method)[0].wins[of_kind].mean() for method in run.results["methods"]}
        rows[kind] = {"n": sum(of_kind)} | {method: float(value) for method, value in wins.items()}
    return rows


def record_comparison(run, comparison: dict, asked) -> None:
    """Store ORPO − SFT, and the answers of all methods to the questions `asked`, in results.json."""
    said = {method: load_heldout(run, method)[1] for method in run.results["methods"]}
    generations = [
        {"prompt": prompt[-1]["content"], "reference": reference} | {method: texts[i] for method, texts in said.items()}
        for i, (prompt, reference) in enumerate(zip(asked["prompt"], references(asked), strict=True))
    ]
    run.write_results(orpo_minus_sft=comparison, generations=generations)


def record_data(run, model, train, heldout) -> None:
    """Note in results.json which model and which data this run is about."""
    _, reason = find_base_model(run.profile.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    data = {"source": f"botocore {botocore.__version__}", "train_pairs": len(train), "heldout_pairs": len(heldout)}
    data |= {f"{name}_services": len(set(split["service"])) for name, split in (("train", train), ("heldout", heldout))}
    data["rejected_kinds"] = {kind: n / len(train) for kind, n in sorted(Counter(train["rejected_kind"]).items())}
    run.write_results(model={"name": run.profile.model, "from": reason, "parameters": parameters}, data=data)
