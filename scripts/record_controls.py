"""Measure what the comparison of SFT and ORPO leaves open, and write docs/results/controls-seed<n>.json.

python -m scripts.record_controls runs/latest [--parts controls documentation sweeps]

The run is a finished laptop run on the house style; its seed and settings are used. Every part is judged on generated
answers by the checker. What is in the file already is kept, so that a stopped recording goes on.

controls        other ways to use the same pairs, on held-out drafts
documentation   the run's models on summaries as AWS publishes them
sweeps          beta and learning rate of SFT and ORPO, on drafts of the validation split
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from helpers.data import documentation_drafts, load_preferences, sft_features, tokenize_preferences
from helpers.data.house_style import check_answer, edit_by_rule
from helpers.evaluation.answers import generate_answers, in_bf16
from helpers.evaluation.checked import SAMPLING, measure_answers
from helpers.evaluation.heldout import groups_of
from helpers.files import read_json, write_json
from helpers.objective.logprobs import pair_logps
from helpers.runs.folder import Run
from helpers.runs.machine import fast_bf16, here_and_now
from helpers.runs.recorded import results_folder
from helpers.training.autocast import adapters_cast_once, round_frozen
from helpers.training.base_model import load_base, load_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer, orpo_values
from helpers.training.profiles import PROFILES
from helpers.training.recipe import lora, training_arguments

RULES_IN_WORDS = (
    "Rewrite the summary as one sentence that begins with a verb in the third person. Do not write you or your, "
    "specified, given, provided, AWS or Amazon, nothing in parentheses, and keep all facts."
)
EXAMPLE = ("Use this API to stop the given AWS job for you. See the guide for details.", "Stops a job.")
SWEEP_DRAFTS = 100
EXAMPLES_KEPT = 8


class LogProbRatioTrainer(ORPOTrainer):
    """ORPO with log p in place of the log-odds: is it the odds that matter?"""

    def pair_losses(self, model, inputs):
        """NLL − β · log σ(log p(chosen) − log p(rejected)) of each pair, from mean token log-probs."""
        chosen, rejected = pair_logps(model, inputs, self.chunked)
        losses = -chosen - self.args.beta * F.logsigmoid(chosen - rejected)
        return losses, orpo_values(-chosen.detach(), chosen.detach(), rejected.detach(), self.args.beta)


@dataclass(frozen=True)
class Way:
    """One way to train: by "sft", "orpo" or "ratio", with changes to the profile, on all pairs or the accepted ones."""

    method: str
    changes: dict = field(default_factory=dict)
    accepted_only: bool = False


CONTROLS = {
    "sft_accepted": Way("sft", accepted_only=True),
    "ratio": Way("ratio"),
    "sft_twice": Way("sft", {"steps": 2 * PROFILES["laptop"].steps}),
}
SWEEPS = {
    **{f"orpo beta {beta:g}": Way("orpo", {"beta": beta}) for beta in (0.25, 1.0, 4.0)},
    **{
        f"{method} learning_rate {rate:g}": Way(method, {"learning_rate": rate})
        for rate in (3e-4, 3e-3, 1e-3)
        for method in ("sft", "orpo")
    },
}


def few_shot(prompt: list[dict]) -> list[dict]:
    """The prompt with the rules in words and one example, for a model that was not trained."""
    system, user = prompt
    ask = user["content"].partition("\n")[0]
    example = [{"role": "user", "content": f"{ask}\n{EXAMPLE[0]}"}, {"role": "assistant", "content": EXAMPLE[1]}]
    return [{"role": "system", "content": f"{system['content']} {RULES_IN_WORDS}"}, *example, user]


class Recording:
    """The measurements of one finished run's seed, kept in one file."""

    def __init__(self, run_path: Path):
        results = read_json(run_path / "results.json")
        self.profile = replace(PROFILES[results["profile"]], seed=results["seed"])
        self.run = Run(run_path, self.profile)
        self.target = results_folder() / f"controls-seed{self.profile.seed}.json"
        self.record = read_json(self.target, {}) or here_and_now() | {
            "profile": self.profile.name,
            "seed": self.profile.seed,
        }

    def keep(self, part: str, name: str, measure) -> None:
        """Measure and write what the file does not have yet."""
        found = self.record.setdefault(part, {})
        if name not in found:
            found[name] = measure()
            write_json(self.target, self.record)
        print(f"{part}: {name}: {found[name].get('answers_right', float('nan')):.3f}", flush=True)

    def train(self, way: Way):
        """(model, tokenizer, what it took) of the base trained in this way."""
        profile = replace(self.profile, **way.changes)
        pairs = load_preferences(self.run.source, "train", profile.train_pairs, profile.seed)
        if way.accepted_only:
            right = [check_answer(row["chosen"][-1]["content"], row["summary"]).accepted for row in pairs]
            pairs = pairs.select(np.flatnonzero(right))
        model, tokenizer = load_base(profile)
        rows = tokenize_preferences(pairs, tokenizer, profile.max_length)
        with tempfile.TemporaryDirectory() as folder:
            stage = Run(Path(folder), profile).stage(way.method)  # of no run: only the answers are kept
            arguments = training_arguments(profile, self.run, stage) | {"save_strategy": "no"}
            common = {"model": model, "processing_class": tokenizer, "peft_config": lora(profile)}
            if way.method == "sft":
                args = SFTConfig(**arguments, completion_only_loss=True)
                trainer = SFTTrainer(args=args, train_dataset=sft_features(rows), **common)
            else:
                trainer_class = ORPOTrainer if way.method == "orpo" else LogProbRatioTrainer
                args = ORPOConfig(**arguments, beta=profile.beta)
                trainer = trainer_class(args=args, train_dataset=rows, **common)
            trainer.remove_callback(PrinterCallback)
            started = time.perf_counter()
            round_frozen(trainer)
            with adapters_cast_once(trainer):
                trainer.train()
        took = {"train_seconds": time.perf_counter() - started, "train_pairs": len(pairs), "steps": profile.steps}
        return trainer.model.float().merge_and_unload(), tokenizer, took

    def answered(self, model, tokenizer, asked, prompts=None, examples: bool = False) -> dict:
        """What the checker says of a model's greedy and sampled answers to the rows `asked`."""
        speaker = in_bf16(model) if fast_bf16(self.run.measured_machine()) else model
        measures = {}
        for way, temperature in {"": 0.0, "sampled_": SAMPLING}.items():
            answers = generate_answers(
                *(speaker, tokenizer, list(prompts or asked["prompt"]), self.profile.max_new_tokens),
                **{"temperature": temperature, "seed": self.profile.seed},
            )
            judged = measure_answers(answers, asked, self.profile.seed, groups_of(asked))
            measures |= {f"{way}{name}": value for name, value in judged.items()}
            if examples and not way:
                measures["examples"] = answers[:EXAMPLES_KEPT]
        return measures

    def trained_and_answered(self, way: Way, asked) -> dict:
        """A way to train, measured on the rows `asked`."""
        model, tokenizer, took = self.train(way)
        return took | self.answered(model, tokenizer, asked)

    def controls(self) -> None:
        """Other ways to use the same pairs, on the drafts that the run was measured on."""
        asked = load_preferences(self.run.source, "heldout", self.profile.heldout_pairs)
        asked = asked.select(range(self.profile.generation_prompts))
        for name, way in CONTROLS.items():
            self.keep("controls", name, lambda way=way: self.trained_and_answered(way, asked))
        prompts = [few_shot(prompt) for prompt in asked["prompt"]]
        self.keep("controls", "few_shot", lambda: self.answered(*load_base(self.profile), asked, prompts))

    def documentation(self) -> None:
        """The run's models on real summaries, which nobody wrote faults into."""
        asked = documentation_drafts()
        asked = asked.select(range(self.profile.generation_prompts))
        edited = [edit_by_rule(draft) for draft in asked["draft"]]
        self.keep("documentation", "drafts", lambda: {"examples": asked["draft"][:EXAMPLES_KEPT]})
        self.keep("documentation", "rule_editor", lambda: measure_answers(edited, asked, 0, groups_of(asked)))
        tokenizer = load_base(self.profile)[1]
        for method in ("base", "sft", "orpo"):
            stored = self.run.stage(method).model_path
            load = (lambda: load_base(self.profile)[0]) if method == "base" else (lambda at=stored: load_model(str(at)))
            self.keep("documentation", method, lambda load=load: self.answered(load(), tokenizer, asked, examples=True))

    def sweeps(self) -> None:
        """Beta and learning rate, on services that no held-out number comes from."""
        asked = load_preferences(self.run.source, "validation", SWEEP_DRAFTS)
        for name, way in SWEEPS.items():
            self.keep("sweeps", name, lambda way=way: self.trained_and_answered(way, asked))


def main() -> None:
    """Record the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished laptop run")
    parser.add_argument("--parts", nargs="+", default=["controls", "documentation", "sweeps"])
    arguments = parser.parse_args()
    recording = Recording(arguments.run.resolve())
    for part in arguments.parts:
        getattr(recording, part)()


if __name__ == "__main__":
    main()
