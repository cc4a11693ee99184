"""Measure the house-style lesson on generated answers, and write docs/results/lesson-seed<n>.json, one file a seed.

python scripts/record_lesson.py [--profile laptop] [--seeds 0 1 2] [--beta 1.0] [--left 0.5] [--out docs/results]

A seed trains SFT (chosen answers), SFT on those chosen answers alone that the checker accepts, and ORPO, each for the
profile's steps and pairs. Base and trained models then answer the same held-out drafts, greedily and sampled at
temperature 1; `helpers.data.style_guide.check` judges each answer. The rule-based editor needs no training.
"""

import argparse
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from helpers.data.house_style import LEFT, build_house_style, documentation_drafts
from helpers.data.style_guide import ASIDE, BRAND, FILLER, RULES, check
from helpers.data.tokenize import tokenize_preferences
from helpers.data.trl_format import sft_features
from helpers.evaluation.answers import generate_answers
from helpers.evaluation.intervals import bootstrap_ci
from helpers.files import REPOSITORY, write_json
from helpers.runs.machine import fast_bf16, here_and_now
from helpers.training.base_model import load_base
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora

TEMPERATURES = {"greedy": 0.0, "sampled": 1.0}
EXAMPLES_KEPT = 8
RULES_IN_WORDS = (
    "Rewrite the summary as one sentence that begins with a verb in the third person. Do not write you or your, "
    "specified, given, provided, AWS or Amazon, nothing in parentheses, and keep all facts."
)
SHOT = ("Use this API to stop the given AWS job for you. See the guide for details.", "Stops a job.")


def rule_editor(draft: str) -> str:
    """An editor in a few lines: the first sentence without a preamble, filler, brand, aside or address of the reader.

    It knows the words of the checker, and the preambles and phrases that the drafts were made with only in part.
    """
    text = ASIDE.sub("", draft).split(". ")[0].rstrip(".")
    text = re.sub(r"^(This|The) (operation|API|action) ", "", text)
    text = re.sub(r"^(?:Use this \w+|Used) to (\w+)", r"\1s", text)
    text = re.sub(r" (in|for) your account$| that you (own|specify)$| for you$", "", text)
    for words in (FILLER, re.compile("Amazon Web Services"), BRAND):
        text = words.sub("", text)
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + "."


def few_shot(prompt: list[dict]) -> list[dict]:
    """The prompt with the rules in words and one example, for a model that was not trained."""
    system, user = prompt
    ask = user["content"].partition("\n")[0]
    example = [{"role": "user", "content": f"{ask}\n{SHOT[0]}"}, {"role": "assistant", "content": SHOT[1]}]
    return [{"role": "system", "content": f"{system['content']} {RULES_IN_WORDS}"}, *example, user]


def train(method: str, pairs, profile, bf16: bool):
    """The base model trained by "sft" or "orpo" on `pairs`: (model, tokenizer, seconds of training)."""
    model, tokenizer = load_base(profile)
    rows = tokenize_preferences(pairs, tokenizer, profile.max_length)
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "output_dir": folder,
            "max_steps": profile.steps,
            "per_device_train_batch_size": profile.pairs_per_step,
            "learning_rate": profile.learning_rate,
            "warmup_steps": max(1, profile.steps // 20),
            "max_length": profile.max_length,
            "save_strategy": "no",
            "seed": profile.seed,
            "optim": "adamw_torch_fused",
            "bf16": bf16,
            "use_cpu": not torch.cuda.is_available(),
            "disable_tqdm": True,
            "report_to": [],
        }
        common = {"model": model, "processing_class": tokenizer, "peft_config": lora(profile)}
        if method == "orpo":
            trainer = ORPOTrainer(args=ORPOConfig(**shared, beta=profile.beta), train_dataset=rows, **common)
        else:
            args = SFTConfig(**shared, completion_only_loss=True)
            trainer = SFTTrainer(args=args, train_dataset=sft_features(rows), **common)
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
    return trainer.model.merge_and_unload(), tokenizer, time.perf_counter() - started


def judge(answers: list[str], rows) -> tuple[dict, dict]:
    """The measures of one set of answers, and the two verdicts of each, as arrays of 0 and 1: accepted, facts."""
    verdicts = [check(answer, summary) for answer, summary in zip(answers, rows["summary"], strict=True)]
    each = {
        "answers_right": np.array([verdict.accepted for verdict in verdicts], float),
        "facts_hold": np.array([verdict.facts_hold for verdict in verdicts], float),
    }
    measures = {"answers_n": len(answers)}
    for name, values in each.items():
        measures |= {name: float(values.mean()), f"{name}_ci95": bootstrap_ci(values, 0, list(rows["service"]))}
    measures["rules_broken"] = {
        rule: float(np.mean([rule in verdict.broken for verdict in verdicts])) for rule in RULES
    }
    return measures, each


def paired(each_a: dict, each_b: dict, groups: list[str]) -> dict:
    """b minus a on the same drafts, with 95% intervals that draw whole services again."""
    differences = {name: each_b[name] - each_a[name] for name in each_a}
    return {name: float(values.mean()) for name, values in differences.items()} | {
        f"{name}_ci95": bootstrap_ci(values, 0, groups) for name, values in differences.items()
    }


def record_seed(profile, left: float, limit: int) -> dict:
    """Train and measure everything of one seed."""
    record = here_and_now() | {"profile": profile.name, "seed": profile.seed, "beta": profile.beta, "left": left}
    bf16 = fast_bf16(record["machine"])
    data = build_house_style(left=left)
    pairs = data["train"].shuffle(seed=profile.seed).select(range(min(profile.train_pairs, len(data["train"]))))
    accepted = [check(row["chosen"][0]["content"], row["summary"]).accepted for row in pairs]
    sets = {"made": data["heldout"], "documentation": documentation_drafts("heldout")}
    sets = {name: rows.select(range(min(limit, len(rows)))) for name, rows in sets.items()}
    plan = {
        "base": (None, None),
        "base, rules and an example in the prompt": (None, None),
        "sft": ("sft", pairs),
        "sft on accepted answers": ("sft", pairs.select(np.flatnonzero(accepted))),
        "orpo": ("orpo", pairs),
    }
    record |= {"train_pairs": len(pairs), "chosen_accepted": float(np.mean(accepted)), "steps": profile.steps}
    record |= {"methods": {}, "orpo_minus_sft": {}, "examples": {}, "rule_editor": {}}
    verdicts = {}
    for name, rows in sets.items():
        record["rule_editor"][name], _ = judge([rule_editor(draft) for draft in rows["draft"]], rows)
    for method, (objective, rows) in plan.items():
        if objective:
            model, tokenizer, seconds = train(objective, rows, profile, bf16)
        else:
            (model, tokenizer), seconds = load_base(profile), 0.0
        record["methods"][method] = {"train_seconds": seconds, "train_rows": len(rows) if rows else 0}
        for name, drafts in sets.items():
            prompts = [few_shot(p) if "prompt" in method else p for p in drafts["prompt"]]
            for mode, temperature in TEMPERATURES.items():
                with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                    answers = generate_answers(
                        model, tokenizer, prompts, profile.max_new_tokens, batch_size=64, temperature=temperature
                    )
                key = f"{name}, {mode}"
                record["methods"][method][key], verdicts[method, key] = judge(answers, drafts)
                record["examples"].setdefault(key, {"draft": drafts["draft"][:EXAMPLES_KEPT]})
                record["examples"][key][method] = answers[:EXAMPLES_KEPT]
                print(f"{method}, {key}: {record['methods'][method][key]['answers_right']:.3f}", flush=True)
    for key in record["examples"]:
        services = list(sets[key.partition(",")[0]]["service"])
        record["orpo_minus_sft"][key] = paired(verdicts["sft", key], verdicts["orpo", key], services)
    return record


def main() -> None:
    """Record each seed as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="laptop", choices=PROFILES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--left", type=float, default=LEFT)
    parser.add_argument("--drafts", type=int, default=256, help="held-out drafts of each kind")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        profile = replace(PROFILES[args.profile], seed=seed, beta=args.beta)
        target = args.out / f"lesson-seed{seed}.json"
        write_json(target, record_seed(profile, args.left, args.drafts))
        print(f"wrote {target}")


if __name__ == "__main__":
    main()
