"""Train in one way, ask, judge, and keep each measurement at once, with its own day and machine."""

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig

from helpers.data import load_preferences, sft_features, tokenize_preferences
from helpers.data.house_style import check_answer
from helpers.evaluation.answers import generate_answers, in_bf16
from helpers.evaluation.checked import SAMPLING, measure_answers, measure_wording
from helpers.evaluation.heldout import groups_of, heldout_batches
from helpers.evaluation.scores import measure_pairs
from helpers.evaluation.scoring import style_control, without_question
from helpers.files import read_json, write_json
from helpers.objective.logprobs import pair_logps
from helpers.runs.folder import Run
from helpers.runs.machine import fast_bf16, here_and_now
from helpers.runs.recorded import results_folder
from helpers.training.autocast import adapters_cast_once, round_frozen
from helpers.training.base_model import load_base
from helpers.training.orpo import ORPOConfig, ORPOTrainer, orpo_values
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, training_arguments
from helpers.training.sft import SFTTrainer

POINTS = 12  # of a training's curve
CURVE = {"loss": "loss", "logps/chosen": "chosen_logp", "logps/rejected": "rejected_logp"}


@functools.cache
def here() -> dict:
    """Machine and versions, measured once a process."""
    return here_and_now()


class LogProbRatioTrainer(ORPOTrainer):
    """ORPO with log p in place of the log-odds: is it the odds that matter?"""

    def pair_losses(self, model, inputs):
        """NLL − β · log σ(log p(chosen) − log p(rejected)) of each pair, from mean token log-probs."""
        chosen, rejected = pair_logps(model, inputs, self.chunked)
        losses = -chosen - self.args.beta * F.logsigmoid(chosen - rejected)
        return losses, orpo_values(-chosen.detach(), chosen.detach(), rejected.detach(), self.args.beta)


@dataclass(frozen=True)
class Way:
    """One way to train: by "sft", "orpo" or "ratio", with changes to the profile, on all pairs or the accepted ones.

    prepare: what is done to the tokenised pairs before training.
    """

    method: str
    changes: dict = field(default_factory=dict)
    accepted_only: bool = False
    prepare: Callable | None = None


class StyleWatch(TrainerCallback):
    """Log-probs of a few pairs with and without their question, before, during and after training."""

    def __init__(self, asked: list[dict], unasked: list[dict], every: int):
        self.asked, self.unasked, self.every, self.records = asked, unasked, every, []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.measure(state.global_step, model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.measure(state.global_step, model)

    def measure(self, step: int, model) -> None:
        """One record; training goes on as if nobody had looked."""
        random_state = torch.random.get_rng_state()
        found = style_control(measure_pairs(model, self.asked), measure_pairs(model, self.unasked))
        torch.random.set_rng_state(random_state)
        self.records.append({"step": step} | found)


class Recording:
    """The measurements of one finished run's seed, kept in one file."""

    def __init__(self, run_path: Path):
        results = read_json(run_path / "results.json")
        self.profile = replace(PROFILES[results["profile"]], seed=results["seed"])
        self.run = Run(run_path, self.profile)
        self.target = results_folder() / f"controls-seed{self.profile.seed}.json"
        about = {"profile": self.profile.name, "seed": self.profile.seed}
        self.record = read_json(self.target, {}) or here() | about

    def keep(self, part: str, name: str, measure) -> None:
        """Measure and write what the file does not have yet, with the day and machine of this measurement."""
        found = self.record.setdefault(part, {})
        if name not in found:
            found[name] = here() | {"date": datetime.now(UTC).isoformat(timespec="seconds")} | measure()
            write_json(self.target, self.record)
        accepted = f": {found[name]['answers_right']:.3f}" if "answers_right" in found[name] else ""
        print(f"{part}: {name}{accepted}", flush=True)

    def pairs(self):
        """The run's training pairs."""
        return load_preferences(self.run.source, "train", self.profile.train_pairs, self.profile.seed)

    def train(self, way: Way, pairs=None, watched=None):
        """(model, tokenizer, what it took) of the base trained in this way, on the run's pairs or on those given.

        watched: pairs whose log-probs are noted as it trains, with and without their question.
        """
        profile = replace(self.profile, **way.changes)
        pairs = self.pairs() if pairs is None else pairs
        if way.accepted_only:
            right = [check_answer(row["chosen"][-1]["content"], row["summary"]).accepted for row in pairs]
            pairs = pairs.select(np.flatnonzero(right))
        watch = self.watch(watched, profile) if watched is not None else None
        model, tokenizer = load_base(profile)
        rows = tokenize_preferences(pairs, tokenizer, profile.max_length)
        if way.prepare:
            rows = way.prepare(rows)
        with tempfile.TemporaryDirectory() as folder:
            stage = Run(Path(folder), profile).stage(way.method)  # of no run: only the answers are kept
            arguments = training_arguments(profile, self.run, stage)
            arguments |= {"save_strategy": "no", "logging_steps": max(1, profile.steps // POINTS)}
            trainer = trainer_of(way, arguments, profile, model, tokenizer, rows)
            trainer.remove_callback(PrinterCallback)
            if watch:
                trainer.add_callback(watch)
            started = time.perf_counter()
            round_frozen(trainer)
            with adapters_cast_once(trainer):
                trainer.train()
        names = ["steps", "learning_rate"] + ["beta"] * (way.method != "sft")
        took = {"train_seconds": time.perf_counter() - started, "train_pairs": len(pairs), "steps": profile.steps}
        took |= {"settings": {name: getattr(profile, name) for name in names}, "curve": curve_of(trainer)}
        took |= {"style": watch.records} if watch else {}
        return trainer.model.float().merge_and_unload(), tokenizer, took

    def watch(self, watched, profile) -> StyleWatch:
        """What looks at the pairs `watched` while a model of the profile trains."""
        model, tokenizer = load_base(profile)
        both = (watched, without_question(watched))
        batches = [heldout_batches(rows, model, tokenizer, profile.max_length) for rows in both]
        return StyleWatch(*batches, profile.monitor_every)

    def said(self, model, tokenizer, prompts: list, ways: dict | None = None, tokens: int | None = None) -> dict:
        """{prefix of a measure: answers to the prompts}, greedy ("") and sampled ("sampled_") unless `ways` says."""
        speaker = in_bf16(model) if fast_bf16(self.run.measured_machine()) else model
        return {
            prefix: generate_answers(
                *(speaker, tokenizer, prompts, tokens or self.profile.max_new_tokens),
                **{"temperature": temperature, "seed": self.profile.seed},
            )
            for prefix, temperature in (ways or {"": 0.0, "sampled_": SAMPLING}).items()
        }

    def judged(self, said: dict[str, list[str]], asked) -> dict:
        """What the checker says of the answers that `said` returned."""
        measures = {}
        for prefix, answers in said.items():
            how = (answers, asked, self.profile.seed, groups_of(asked))
            found = measure_answers(*how) | measure_wording(*how)
            measures |= {f"{prefix}{name}": value for name, value in found.items()}
        return measures

    def answered(self, model, tokenizer, asked, prompts=None, examples: int = 0) -> dict:
        """What the checker says of a model's answers to the rows `asked`, and the first of them."""
        said = self.said(model, tokenizer, list(prompts or asked["prompt"]))
        return self.judged(said, asked) | ({"examples": said[""][:examples]} if examples else {})

    def trained_and_answered(self, way: Way, asked, watched=None) -> dict:
        """A way to train, measured on the rows `asked`."""
        model, tokenizer, took = self.train(way, watched=watched)
        return took | self.answered(model, tokenizer, asked)


def trainer_of(way: Way, arguments: dict, profile, model, tokenizer, rows):
    """The trainer of a way, on tokenised pairs."""
    common = {"model": model, "processing_class": tokenizer, "peft_config": lora(profile)}
    if way.method == "sft":
        args = SFTConfig(**arguments, completion_only_loss=True)
        return SFTTrainer(args=args, train_dataset=sft_features(rows), **common)
    trainer_class = ORPOTrainer if way.method == "orpo" else LogProbRatioTrainer
    return trainer_class(args=ORPOConfig(**arguments, beta=profile.beta), train_dataset=rows, **common)


def curve_of(trainer) -> list[dict]:
    """What the trainer logged: step, loss and, of pairs, the log-probs of both answers, means since the last point."""
    return [
        {"step": line["step"]} | {ours: round(line[name], 4) for name, ours in CURVE.items() if name in line}
        for line in trainer.state.log_history
        if "loss" in line
    ]


def dated(record: dict, *parts: str) -> list[dict]:
    """The measurements in these parts of a record, each with its date and machine, else with those of the file."""
    common = {name: record[name] for name in ("date", "machine")}
    return [common | entry for part in parts for entry in record.get(part, {}).values()]
