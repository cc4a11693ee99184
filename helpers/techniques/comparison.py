"""SFT, DPO, RLHF and ORPO from one base on one set of pairs: a folder for each stage, and what each stage cost.

    <run>/techniques/
      sft/  orpo/  dpo/  reward/  rlhf/          equal pairs
      sft-seconds/  orpo-seconds/  rlhf-seconds/ equal seconds: as long as SFT and DPO took together
      beta-0/  beta-0.1/  …                      ORPO's curves for several betas

A stage that finished with the same settings is kept, so that a stopped comparison goes on where it was.
"""

import json
import math
from dataclasses import replace

from transformers import AutoModelForSequenceClassification, set_seed

from helpers.data.load import load_preferences
from helpers.evaluation.answers import generate_answers
from helpers.evaluation.heldout import groups_of, heldout_batches, measure_heldout, read_scores
from helpers.evaluation.scores import accuracy
from helpers.evaluation.scoring import answer_lengths, implicit_margins
from helpers.files import read_json
from helpers.show.widgets import LiveMonitor
from helpers.techniques import trainers
from helpers.techniques.budgets import BUDGETS, STAGES
from helpers.techniques.counting import LogTo, StopAfter, train_and_count
from helpers.techniques.guards import RefuseOtherReference, StopOnKL, refuse_unlearned_reward
from helpers.techniques.quiet import quiet_libraries
from helpers.techniques.rewards import pair_rewards, rewards_of
from helpers.training.base_model import find_base_model, load_model, load_tokenizer
from helpers.training.recipe import stage_settings, training_arguments

DOMAIN = "aws-api"  # its recorded comparison belongs to these pairs
RECORDED = ("sft", "dpo", "reward", "rlhf", "orpo", "sft-seconds", "rlhf-seconds", "orpo-seconds")
WATCHED = 24  # pairs whose log-probs are measured a few times while a stage trains
FOREVER = 100_000  # optimizer steps of a stage that ends by the clock
BETAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)


class Comparison:
    """The techniques in one run. Each method trains its stage and those before it, and returns its result."""

    def __init__(self, run, profile, budget=None):
        self.run, self.budget = run, budget or BUDGETS[profile.name]
        own = {"generation_prompts": self.budget.answers, "max_new_tokens": self.budget.answer_tokens}
        self.profile = replace(profile, beta=self.budget.orpo_beta, **own)
        self.base, reason = find_base_model(profile.model)
        print(f"Base model — {reason}")
        self.tokenizer = load_tokenizer(self.base)
        self.heldout = load_preferences(DOMAIN, "heldout", limit=self.budget.heldout_pairs)
        watched = profile.monitor_pairs if profile.name == "smoke" else WATCHED
        self.watched = load_preferences(DOMAIN, "validation", limit=watched)

    def _train_split(self, limit: int):
        """The first `limit` training pairs in the order of the seed."""
        return load_preferences(DOMAIN, "train", limit=limit, seed=self.profile.seed)

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
        other = Comparison(self.run, self.profile, replace(self.budget, orpo_beta=beta))
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
        with quiet_libraries():
            model = trainers.reward_model(start, self.tokenizer) if name == "reward" else load_model(start)
            monitor = None if name == "reward" else self._monitor(name, stage, model)
            job = self._job(name, model, stage, monitor, seconds)
            trainer = make_trainer(job)
            cost = train_and_count(trainers.silenced(trainer), monitor)
        cost["stopped"] = next((guard.stopped for guard in job.callbacks if isinstance(guard, StopOnKL)), None)
        if measure:
            cost |= self._saved_and_measured(stage, name, trainer.model.merge_and_unload())
        stage.finish(cost | {"pairs": cost["steps"] * self.budget.pairs_per_step})
        return stage.result

    def _settings(self, name: str, seconds: float | None) -> dict:
        settings = stage_settings(self.profile, self.run, name) | {"budget": self.budget.settings}
        return json.loads(json.dumps(settings | {"by_the_clock": bool(seconds)}))

    def _job(self, name: str, model, stage, monitor=None, seconds: float | None = None):
        every = {"logging_steps": 1, "save_strategy": "no", "lr_scheduler_type": "constant_with_warmup"}
        steps = {"max_steps": FOREVER if seconds else self.budget.steps_of(name), "warmup_steps": 2}
        batch = {"per_device_train_batch_size": self.budget.pairs_per_step, "gradient_accumulation_steps": 1}
        arguments = training_arguments(self.profile, self.run, stage) | every | steps | batch
        callbacks = [monitor or LogTo(stage)]
        if seconds:
            callbacks.append(StopAfter(seconds, monitor))
        # Who has seconds left may look at more pairs of the domain: going round the same ones would only wear them out
        pairs = self._train_split(self.profile.train_pairs if seconds else self.budget.pairs_of(name))
        return trainers.Job(model, self.tokenizer, pairs, self.profile, self.budget, arguments, callbacks)

    def _monitor(self, name: str, stage, model) -> LiveMonitor:
        batches = heldout_batches(self.watched, model, self.tokenizer, self.profile.max_length)
        return LiveMonitor(batches, stage, max(1, self.budget.steps_of(name) // 3), share=math.inf)

    def _saved_and_measured(self, stage, name: str, model) -> dict:
        model.save_pretrained(stage.model_path)
        self.tokenizer.save_pretrained(stage.model_path)
        if name == "reward":
            return self._measure_reward(model)
        measured = measure_heldout(stage, name, model, self.tokenizer, self.heldout, self.profile)
        return measured | (self._measure_implicit(stage) if name == "dpo" else {})

    def _measure_implicit(self, stage) -> dict:
        """Pairs in which DPO's own score, the implicit reward against the SFT model, prefers the right answer."""
        lengths = answer_lengths(self.heldout, self.tokenizer, self.profile.max_length)
        margins = implicit_margins(read_scores(stage), read_scores(self.stage("sft")), lengths)
        found = accuracy(margins, self.profile.seed, groups_of(self.heldout))
        return {name.replace("preference", "implicit"): value for name, value in found.items() if name != "n"}

    def _measure_reward(self, model) -> dict:
        chosen, rejected = pair_rewards(model, self.tokenizer, self.heldout)
        groups, floor = groups_of(self.heldout), self.budget.reward_floor
        accuracy, interval = refuse_unlearned_reward(chosen, rejected, groups, floor)
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
