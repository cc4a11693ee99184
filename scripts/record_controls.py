"""Measure what the comparison of SFT and ORPO leaves open, and write docs/results/controls-seed<n>.json.

python -m scripts.record_controls runs/latest                           all parts, in this order
python -m scripts.record_controls runs/latest --parts style failures    some of them

The run is a finished laptop run on the house style; its seed and settings are used. Every part is judged on generated
answers by the checker. What is in the file already is kept, so that a stopped recording goes on, on another day or
machine too: each measurement has its own.

editors         what rules without a language model reach, on held-out drafts and on summaries as AWS publishes them
wording         how many answers of the run's models are AWS's own summary, word for word
controls        other ways to use the same pairs, on held-out drafts
documentation   the run's models on summaries as AWS publishes them
style           SFT and ORPO with the profile's values: log-probs with and without the draft as they train
sweeps          beta and learning rate of SFT and ORPO, on drafts of the validation split
second_split    SFT and ORPO on pairs whose services were split by another seed
failures        a gallery of small trainings, each with one thing wrong
"""

import argparse
from pathlib import Path

from helpers.data import documentation_drafts, load_preferences
from helpers.evaluation.baselines import edited_drafts
from helpers.evaluation.checked import paired_answers, word_for_word
from helpers.evaluation.heldout import groups_of, load_heldout
from helpers.evaluation.intervals import bootstrap_ci
from helpers.training.base_model import load_base, load_model
from helpers.training.profiles import PROFILES
from scripts import failures
from scripts.domains.house_style import build_house_style
from scripts.recording import Recording, Way

RULES_IN_WORDS = (
    "Rewrite the summary as one sentence that begins with a verb in the third person. Do not write you or your, "
    "specified, given, provided, AWS or Amazon, nothing in parentheses, and keep all facts."
)
EXAMPLE = ("Use this API to stop the given AWS job for you. See the guide for details.", "Stops a job.")
SWEEP_DRAFTS = 100
EXAMPLES_KEPT = 8
SPLIT_SEED = 1  # of the second split; the built-in domain has 0
CONTROLS = {
    "sft_accepted": Way("sft", accepted_only=True),
    "ratio": Way("ratio"),
    "sft_twice": Way("sft", {"steps": 2 * PROFILES["laptop"].steps}),
}
USED = {"sft": Way("sft"), "orpo": Way("orpo")}  # with the profile's own values
SWEEPS = {
    **USED,
    **{f"orpo beta {beta:g}": Way("orpo", {"beta": beta}) for beta in (0.25, 2.0, 4.0)},
    **{
        f"{method} learning_rate {rate:g}": Way(method, {"learning_rate": rate})
        for rate in (3e-4, 3e-3)
        for method in ("sft", "orpo")
    },
}


def few_shot(prompt: list[dict]) -> list[dict]:
    """The prompt with the rules in words and one example, for a model that was not trained."""
    system, user = prompt
    ask = user["content"].partition("\n")[0]
    example = [{"role": "user", "content": f"{ask}\n{EXAMPLE[0]}"}, {"role": "assistant", "content": EXAMPLE[1]}]
    return [{"role": "system", "content": f"{system['content']} {RULES_IN_WORDS}"}, *example, user]


def heldout_drafts(recording: Recording):
    """The drafts that the run was measured on."""
    profile = recording.profile
    asked = load_preferences(recording.run.source, "heldout", profile.heldout_pairs)
    return asked.select(range(profile.generation_prompts))


def published(recording: Recording):
    """Real summaries, which nobody wrote faults into."""
    return documentation_drafts().select(range(recording.profile.generation_prompts))


def editors(recording: Recording) -> None:
    """Rules without a language model, on the run's held-out drafts and on real summaries."""
    train = recording.pairs()
    for part, asked in (("controls", heldout_drafts(recording)), ("documentation", published(recording))):
        for name, edited in edited_drafts(train, asked["draft"]).items():
            measured = {"examples": edited[:EXAMPLES_KEPT]} | recording.judged({"": edited}, asked)
            recording.keep(part, name, lambda measured=measured: measured)


def wording(recording: Recording) -> None:
    """The run's answers to its held-out drafts, measured word for word; no model is loaded."""
    asked = heldout_drafts(recording)

    def measure(method: str) -> dict:
        ways = {"": "answers", "sampled_": "sampled"}
        said = {prefix: load_heldout(recording.run, method, way)[1] for prefix, way in ways.items()}
        return recording.judged(said, asked)

    for method in ("base", "sft", "orpo"):
        recording.keep("wording", method, lambda method=method: measure(method))


def controls(recording: Recording) -> None:
    """Other ways to use the same pairs."""
    asked = heldout_drafts(recording)
    for name, way in CONTROLS.items():
        recording.keep("controls", name, lambda way=way: recording.trained_and_answered(way, asked))
    prompts = [few_shot(prompt) for prompt in asked["prompt"]]
    recording.keep("controls", "few_shot", lambda: recording.answered(*load_base(recording.profile), asked, prompts))


def documentation(recording: Recording) -> None:
    """The run's models on real summaries."""
    asked, run = published(recording), recording.run
    recording.keep("documentation", "drafts", lambda: {"examples": asked["draft"][:EXAMPLES_KEPT]})
    tokenizer = load_base(recording.profile)[1]

    def measure(method: str) -> dict:
        base = method == "base"
        model = load_base(recording.profile)[0] if base else load_model(str(run.stage(method).model_path))
        return recording.answered(model, tokenizer, asked, examples=EXAMPLES_KEPT)

    for method in ("base", "sft", "orpo"):
        recording.keep("documentation", method, lambda method=method: measure(method))


def style(recording: Recording) -> None:
    """The first two trainings of the sweeps, whose validation pairs are measured without their drafts too."""
    sweeps(recording, USED)


def sweeps(recording: Recording, ways: dict[str, Way] | None = None) -> None:
    """Beta and learning rate, on services that no held-out number comes from."""
    profile, source = recording.profile, recording.run.source
    asked = load_preferences(source, "validation", SWEEP_DRAFTS)
    watched = load_preferences(source, "validation", profile.monitor_pairs)
    for name, way in (ways or SWEEPS).items():
        seen = watched if name in USED else None
        recording.keep(
            "sweeps", name, lambda way=way, seen=seen: recording.trained_and_answered(way, asked, watched=seen)
        )


def second_split(recording: Recording) -> None:
    """SFT and ORPO once more, where other services are held out and other faults written into the drafts."""
    recording.keep("second_split", f"seed {SPLIT_SEED}", lambda: on_split(recording, build_house_style(SPLIT_SEED)))


def on_split(recording: Recording, splits) -> dict:
    """Both methods trained and measured on one split, their paired difference, and the editors beside them."""
    profile, said = recording.profile, {}
    train = splits["train"].shuffle(seed=profile.seed).select(range(profile.train_pairs))
    asked = splits["heldout"].select(range(profile.generation_prompts))
    groups = groups_of(asked)
    found = {f"{name}_services": len(set(part["service"])) for name, part in (("train", train), ("heldout", asked))}
    for name, edited in edited_drafts(train, asked["draft"]).items():
        found[name] = recording.judged({"": edited}, asked)
    for method, way in USED.items():
        model, tokenizer, took = recording.train(way, train)
        said[method] = recording.said(model, tokenizer, list(asked["prompt"]))
        found[method] = took | recording.judged(said[method], asked)
    gains = found["orpo_minus_sft"] = {}
    for prefix, before in said["sft"].items():
        paired = paired_answers(before, said["orpo"][prefix], asked, profile.seed, groups)
        difference = word_for_word(said["orpo"][prefix], asked) - word_for_word(before, asked)
        paired |= {"word_for_word": float(difference.mean())}
        paired |= {"word_for_word_ci95": bootstrap_ci(difference, profile.seed, groups)}
        gains.update({f"{prefix}{name}": value for name, value in paired.items()})
    return found


def gallery(recording: Recording) -> None:
    """Small trainings that go wrong, and one that does not."""
    profile = recording.profile
    asked = load_preferences(recording.run.source, "validation", failures.DRAFTS)
    for name, way in failures.ways(min(failures.STEPS, profile.steps)).items():
        recording.keep("failures", name, lambda way=way: failures.measure(recording, way, asked))


PARTS = {
    "editors": editors,
    "wording": wording,
    "controls": controls,
    "documentation": documentation,
    "style": style,
    "sweeps": sweeps,
    "second_split": second_split,
    "failures": gallery,
}


def main() -> None:
    """Record the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished laptop run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    recording = Recording(arguments.run.resolve())
    for part in arguments.parts:
        PARTS[part](recording)


if __name__ == "__main__":
    main()
