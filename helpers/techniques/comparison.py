"""SFT, DPO, RLHF and ORPO from one base on one set of pairs: a folder for each stage, and what each stage cost.

    <run>/techniques/
      sft/  orpo/  dpo/  reward/  rlhf/          equal pairs
      sft-seconds/  orpo-seconds/  rlhf-seconds/ equal seconds: as long as SFT and DPO took together
      beta-0/  beta-0.1/  …                      ORPO's curves for several betas

A stage that finished with the same settings is kept, so that a stopped comparison goes on where it was.
"""

import json
import time
from dataclasses import replace

import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback, set_seed

from helpers.data.load import load_preferences
from helpers.evaluation.answers import generate_answers
from helpers.evaluation.heldout import heldout_batches, measure_heldout
from helpers.files import read_json
from helpers.runs.machine import peak_memory_bytes
from helpers.show.widgets import LiveMonitor
from helpers.techniques import trainers
from helpers.techniques.budgets import BUDGETS
from helpers.techniques.guards import RefuseOtherReference, StopOnKL, refuse_unlearned_reward
from helpers.techniques.rewards import pair_rewards, rewards_of
from helpers.training.base_model import find_base_model, load_model, load_tokenizer
from helpers.training.recipe import stage_settings, training_arguments

STAGES = {"sft": ("sft",), "dpo": ("sft", "dpo"), "rlhf": ("sft", "reward", "rlhf"), "orpo": ("orpo",)}
RECORDED = ("sft", "dpo", "reward", "rlhf", "orpo", "sft-seconds", "rlhf-seconds", "orpo-seconds")
FOREVER = 100_000  # optimizer steps of a stage that ends by the clock
BETAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)


class Comparison:
    """The techniques in one run. Each method trains its stage and those before it, and returns its result."""

    def __init__(self, run, profile, budget=None):
        self.run, self.profile, self.budget = run, profile, budget or BUDGETS[profile.name]
        self.base, reason = find_base_model(profile.model)
        print(f"Base model — {reason}")
        self.tokenizer = load_tokenizer(self.base)
        self.pairs = self._train_split(self.budget.pairs)
        self.heldout = load_preferences(split="heldout", limit=self.budget.heldout_pairs)
        self.watched = load_preferences(split="validation", limit=profile.monitor_pairs)

    def _train_split(self, limit: int):
        """The first `limit` training pairs in the order of the seed."""
        return load_preferences(split="train", limit=limit, seed=self.profile.seed)

    # ── the stages ──────────────────────────────────────────────────────────────────────────────────────────

    def sft(self, seconds: float | None = None) -> dict:
        """Supervised fine-tuning of the base on the chosen answers, for the budget's pairs or for `seconds`."""
        return self._train("sft", trainers.sft_trainer, self.base, seconds)

    def orpo(self, seconds: float | None = None) -> dict:
        """ORPO of the base on the pairs, for the budget's pairs or for `seconds`."""
        return self._train("orpo", trainers.orpo_trainer, self.base, seconds)

    def dpo(self) -> dict:
        """DPO of the SFT model on the pairs."""
        self.sft()
        return self._train("dpo", self._dpo_trainer, self.path("sft"))

    def reward(self) -> dict:
        """A reward model from the SFT model; a ValueError if it learned nothing."""
        self.sft()
        return self._train("reward", trainers.reward_trainer, self.path("sft"))

    def rlhf(self, seconds: float | None = None) -> dict:
        """RLOO of the SFT model against the reward model."""
        self.reward()
        return self._train("rlhf", self._rloo_trainer, self.path("sft"), seconds)

    def curve(self, beta: float) -> list[dict]:
        """Log-probs of the watched pairs while ORPO trains with this beta: the records of the monitor."""
        other = Comparison(self.run, replace(self.profile, beta=beta), self.budget)
        other._train(f"beta-{beta:g}", trainers.orpo_trainer, self.base, measure=False)
        return self.stage(f"beta-{beta:g}").read_monitor()

    def _dpo_trainer(self, job):
        job.callbacks.append(RefuseOtherReference())
        return trainers.dpo_trainer(job)

    def _rloo_trainer(self, job):
        job.callbacks.append(StopOnKL(self.budget.kl_limit))
        return trainers.rloo_trainer(job, self.load_reward())

    # ── one stage ───────────────────────────────────────────────────────────────────────────────────────────

    def _train(self, name: str, make_trainer, start: str, seconds: float | None = None, measure: bool = True) -> dict:
        """Train and measure one stage, unless it is there already. `seconds` ends it by the clock."""
        stage = self.stage(f"{name}-seconds" if seconds else name)
        settings = self._settings(name, seconds)
        if stage.finished and read_json(stage.path / "settings.json") == settings:
            print(f"{stage.path.name}: kept, it had finished")
            return stage.result
        stage.start(settings, "the base model" if start == self.base else "the SFT model")
        set_seed(self.profile.seed)
        model = trainers.reward_model(start, self.tokenizer) if name == "reward" else load_model(start)
        monitor = None if name == "reward" else self._monitor(stage, model)
        trainer = make_trainer(self._job(model, stage, monitor, seconds))
        cost = train_and_count(trainers.silenced(trainer), monitor)
        if measure:
            cost |= self._saved_and_measured(stage, name, trainer.model.merge_and_unload())
        stage.finish(cost | {"pairs": cost["steps"] * self.budget.pairs_per_step})
        return stage.result

    def _settings(self, name: str, seconds: float | None) -> dict:
        settings = stage_settings(self.profile, self.run, name) | {"budget": self.budget.settings}
        return json.loads(json.dumps(settings | {"by_the_clock": bool(seconds)}))

    def _job(self, model, stage, monitor=None, seconds: float | None = None):
        every = {"logging_steps": 1, "save_strategy": "no", "lr_scheduler_type": "constant_with_warmup"}
        steps = {"max_steps": FOREVER if seconds else self.budget.steps, "warmup_steps": 2}
        batch = {"per_device_train_batch_size": self.budget.pairs_per_step}
        arguments = training_arguments(self.profile, self.run, stage) | every | steps | batch
        callbacks = [monitor or LogTo(stage)]
        if seconds:
            callbacks.append(StopAfter(seconds, monitor))
        # Who has seconds left may look at more pairs of the domain: going round the same ones would only wear them out
        pairs = self._train_split(self.profile.train_pairs) if seconds else self.pairs
        return trainers.Job(model, self.tokenizer, pairs, self.profile, self.budget, arguments, callbacks)

    def _monitor(self, stage, model) -> LiveMonitor:
        batches = heldout_batches(self.watched, model, self.tokenizer, self.profile.max_length)
        return LiveMonitor(batches, stage, max(1, self.budget.steps // 3))

    def _saved_and_measured(self, stage, name: str, model) -> dict:
        model.save_pretrained(stage.model_path)
        self.tokenizer.save_pretrained(stage.model_path)
        if name == "reward":
            return self._measure_reward(model)
        return measure_heldout(stage, name, model, self.tokenizer, self.heldout, self.profile)

    def _measure_reward(self, model) -> dict:
        chosen, rejected = pair_rewards(model, self.tokenizer, self.heldout)
        services = list(self.heldout["service"])
        accuracy, interval = refuse_unlearned_reward(chosen, rejected, services, self.budget.reward_floor)
        return {"n": len(chosen), "reward_accuracy": accuracy, "reward_accuracy_ci95": interval}

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────

    def stage(self, name: str):
        """The folder of a stage."""
        return self.run.stage(f"techniques/{name}")

    def has(self, name: str) -> bool:
        """True once a stage has finished."""
        return self.stage(name).finished

    def path(self, name: str) -> str:
        """Where the model of a finished stage is; a FileNotFoundError says which to train first."""
        if not self.has(name):
            raise FileNotFoundError(f"no finished {name} stage in {self.run.path.name}: train it first")
        return str(self.stage(name).model_path)

    def load_reward(self):
        """The trained reward model."""
        return AutoModelForSequenceClassification.from_pretrained(self.path("reward"), num_labels=1).eval()

    def answers(self, name: str) -> list[str]:
        """The held-out answers of a finished stage."""
        return read_json(self.stage(name).path / "heldout.json")["answers"]

    def seconds(self, technique: str) -> float:
        """Training seconds of all stages of a technique at equal pairs."""
        return sum(self.stage(name).result["train_seconds"] for name in STAGES[technique])

    def results(self) -> dict[str, dict]:
        """Every finished stage's result with its curve, and KL to the reference at each step where there is one."""
        stages = {name: self.stage(name) for name in RECORDED if self.has(name)}
        return {name: stage.result | curves(stage) for name, stage in stages.items()}

    def record(self) -> dict:
        """Put the comparison into the run's results.json: `techniques`, and DPO and RLHF among the `methods`."""
        record = {"budget": self.budget.settings, "stages": self.results(), "rewards": self.score_answers()}
        self.run.write_results(techniques=record | {"heldout_pairs": len(self.heldout)})
        for name in ("dpo", "rlhf"):
            self.run.stage(name).write_file("heldout.json", read_json(self.stage(name).path / "heldout.json"))
            self.run.write_results(methods={name: self.stage(name).result})
        return self.run.results | self.run.results["techniques"]

    def score_answers(self) -> dict[str, float]:
        """Mean reward of every finished stage's held-out answers, and of the base's, by the reward model of RLHF."""
        reward = self.load_reward()
        asked = self.heldout.select(range(min(self.profile.generation_prompts, len(self.heldout))))
        said = {"base": self._base_answers(asked)}
        said |= {name: self.answers(name) for name in RECORDED if name != "reward" and self.has(name)}
        prompts = asked["prompt"]
        return {name: float(rewards_of(reward, self.tokenizer, prompts, texts).mean()) for name, texts in said.items()}

    def _base_answers(self, asked) -> list[str]:
        return generate_answers(load_model(self.base), self.tokenizer, asked["prompt"], self.profile.max_new_tokens)


def curves(stage) -> dict[str, list]:
    """What was measured while a stage trained: held-out log-probs, and KL to the reference where there is one."""
    return {"monitor": stage.read_monitor(), "kl": [line["kl"] for line in stage.read_log() if "kl" in line]}


# ── training, timed and counted ─────────────────────────────────────────────────────────────────────────────


def train_and_count(trainer, monitor=None) -> dict:
    """Train; returns steps, seconds (live measurements taken out), and the positions that went through each model.

    `forward_tokens` are those without a gradient: a reference's, a reward model's, a generation's. `trained_tokens`
    went forward and backward. Padding counts: the machine computes it.
    """
    counters = [TokenCounter(trainer.model, monitored=monitor is not None)]
    counters += [TokenCounter(model) for model in getattr(trainer, "reward_funcs", [])]
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - (monitor.seconds_spent if monitor else 0)
    for counter in counters:
        counter.remove()
    trained = sum(counter.trained for counter in counters)
    return {
        "steps": trainer.state.global_step,
        "train_seconds": seconds,
        "train_tokens_per_second": trained / seconds,
        "peak_memory_bytes": peak_memory_bytes(),  # of this process so far; `measure` tells the techniques apart
        "trained_tokens": trained,
        "forward_tokens": sum(counter.forward for counter in counters),
        "layout": getattr(trainer.args, "layout", "rows"),
        "precision": "bf16 autocast" if trainer.args.bf16 else "float32",
    }


class TokenCounter:
    """Counts the positions that pass a model's embedding, with and without a gradient.

    Of a `monitored` model those in inference mode are left out: they are the monitor's.
    """

    def __init__(self, model, monitored: bool = False):
        self.trained, self.forward, self.monitored = 0, 0, monitored
        self._handle = model.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, module, inputs) -> None:
        if torch.is_grad_enabled():
            self.trained += inputs[0].numel()
        elif not (self.monitored and torch.is_inference_mode_enabled()):
            self.forward += inputs[0].numel()

    def remove(self) -> None:
        self._handle.remove()


class LogTo(TrainerCallback):
    """Writes what the trainer logs to a stage, for a stage that no LiveMonitor watches."""

    def __init__(self, stage):
        self.stage = stage

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.stage.log({"step": state.global_step} | logs)
            print(f"\rstep {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}", end="", flush=True)

    def on_train_end(self, args, state, control, **kwargs):
        print()


class StopAfter(TrainerCallback):
    """Ends training after so many seconds, those of the monitor not counted."""

    def __init__(self, seconds: float, monitor=None):
        self.seconds, self.monitor = seconds, monitor

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        spent = self.monitor.seconds_spent if self.monitor else 0
        control.should_training_stop = time.perf_counter() - self.started - spent >= self.seconds
