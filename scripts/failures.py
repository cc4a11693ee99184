"""Four small trainings that go wrong in ways people meet: how each is made, what it shows, its cause and its fix."""

from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset

from helpers.data.schema import SIDES
from helpers.evaluation.tables import markdown_table, result_cell
from helpers.runs.recorded import provenance
from helpers.training.profiles import PROFILES
from scripts.recording import Way, dated

STEPS, DRAFTS, EXAMPLES = 60, 40, 2
TOKENS = 2  # times the profile's tokens of an answer: one that does not stop shall be seen to go on
LESSON = PROFILES["laptop"]
RIGHT = "nothing"  # the name of the training with nothing wrong


def swapped(rows: Dataset) -> Dataset:
    """Tokenised pairs whose chosen answers are called rejected, and the other way round."""
    other = dict(zip(SIDES, reversed(SIDES), strict=True))
    parts = [name.partition("_") for name in rows.column_names]
    return rows.rename_columns({f"{side}_{rest}": f"{other[side]}_{rest}" for side, _, rest in parts if side in other})


def run_together(rows: Dataset) -> Dataset:
    """Tokenised pairs whose answers go on with those of the next pair, where the token that says stop should be."""
    examples = list(rows)
    made = [_followed(row, other) for row, other in zip(examples, [*examples[1:], *examples[:1]], strict=True)]
    return Dataset.from_list(made)


def _followed(row: dict, other: dict) -> dict:
    longer = {
        f"{side}_{name}": row[f"{side}_{name}"][:-1] + other[f"{side}_{name}"][other["prompt_length"] : -1]
        for side in SIDES
        for name in ("input_ids", "labels")
    }
    return row | longer | {"length": max(len(longer[f"{side}_labels"]) for side in SIDES)}


@dataclass(frozen=True)
class Failure:
    """A training with one thing wrong: how it is made, and what to say of it."""

    title: str
    way: Way
    cause: str
    fix: str


FAILURES = {
    "learning_rate": Failure(
        "A learning rate far too large",
        Way("orpo", {"learning_rate": 30 * LESSON.learning_rate}),
        "Each update goes far past the weights it aims at, and what the base model knew of language goes with it.",
        "Divide the learning rate by ten until the loss falls from the first log lines on, and stays down. Start from "
        "published values (notebook 05).",
    ),
    "beta": Failure(
        "A `beta` far too large",
        Way("orpo", {"beta": 100 * LESSON.beta}),
        "The odds-ratio term outweighs the SFT term, so the model learns what to avoid and hardly what to write. Both "
        "answers of a pair share most of their words, and a push against one hits the other.",
        "Halve `beta` until `logps/chosen` rises over the training, and look at kept facts beside accepted answers.",
    ),
    "swapped": Failure(
        "Chosen and rejected swapped",
        Way("orpo", prepare=swapped),
        "The model imitates the worse revision and is pushed away from the better one. The trainer can't know: "
        "what it calls chosen is the worse answer, and rises over what it calls rejected as in a good run.",
        "Read 20 pairs before you train, and judge what the model writes by something that is not the trainer's own "
        "margin.",
    ),
    "no_end": Failure(
        "Answers laid end to end without an end token",
        Way("orpo", prepare=run_together),
        "Nothing stands between a training answer and the next one, as where rows are packed and nobody adds the token "
        "that says stop. So the model learns that more text follows an answer, and never that an answer ends.",
        "Check that the last label of every answer is EOS, as notebook 01 does. Where padding and EOS are one token, "
        "mask labels by length, never by token.",
    ),
}


def ways(steps: int) -> dict[str, Way]:
    """{name: way to train} of the gallery, that with nothing wrong first, all of `steps` steps."""
    found = {RIGHT: Way("orpo")} | {name: failure.way for name, failure in FAILURES.items()}
    return {name: replace(way, changes=way.changes | {"steps": steps}) for name, way in found.items()}


def measure(recording, way: Way, asked) -> dict:
    """A training of the gallery: its curve, its greedy answers to the rows `asked` as the checker judges them."""
    model, tokenizer, took = recording.train(way)
    said = recording.said(model, tokenizer, list(asked["prompt"]), {"": 0.0}, TOKENS * recording.profile.max_new_tokens)
    lengths = [len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in said[""]]
    examples = [{"draft": draft, "answer": answer} for draft, answer in zip(asked["draft"], said[""], strict=True)]
    judged = recording.judged(said, asked)
    return took | judged | {"answer_tokens": float(np.mean(lengths)), "examples": examples[:EXAMPLES]}


# ── as a part of the documentation ──────────────────────────────────────────────────────────────────────────


def gallery_record(controls: list[dict]) -> dict | None:
    """The first record with the training that has nothing wrong and all that have."""
    names = {RIGHT, *FAILURES}
    return next((record for record in controls if names <= set(record.get("failures", {}))), None)


def curves_of(record: dict) -> tuple[dict[str, list[dict]], list[dict]]:
    """({title: curve} of the failures, the curve of the training with nothing wrong)."""
    found = record["failures"]
    curves = {failure.title.replace("`", ""): found[name]["curve"] for name, failure in FAILURES.items()}
    return curves, found[RIGHT]["curve"]


def about(record: dict, command: str) -> str:
    """Where the gallery came from."""
    return provenance(f"{command}, seed {record['seed']}", dated(record, "failures"))


def gallery(controls: list[dict], command: str) -> str:
    """Markdown: the trainings side by side, then each failure with two answers, its cause and its fix; "" without."""
    if not (record := gallery_record(controls)):
        return ""
    found = record["failures"]
    right = found[RIGHT]
    head = ["one thing wrong", "accepted", "facts kept", "tokens an answer", "chosen", "rejected", "loss"]
    named = {"nothing wrong": right} | {failure.title: found[name] for name, failure in FAILURES.items()}
    rows = [[label, *_cells(entry)] for label, entry in named.items()]
    note = (
        f"*{about(record, command)}; ORPO, {right['settings']['steps']} steps; {right['answers_n']} validation drafts, "
        "greedy; % (95%). Log-probs per token and loss: of the training pairs, first and last point of each curve.*"
    )
    parts = [
        "## Gallery of failures",
        "The same short training with one thing wrong in each. Look at the curves and at the answers: a failure may "
        "show in one of them only.",
        f"{markdown_table(head, rows)}\n\n{note}",
        "![Log-probs of what each training calls chosen and rejected: four failures, each beside the training with "
        "nothing wrong](imgs/failures.png)",
        *(_told(failure, found[name], right) for name, failure in FAILURES.items()),
    ]
    return "\n\n".join(parts)


def _cells(entry: dict) -> list[str]:
    first, last = entry["curve"][0], entry["curve"][-1]
    moved = [f"{first[name]:.2f} → {last[name]:.2f}" for name in ("chosen_logp", "rejected_logp", "loss")]
    shares = [result_cell(entry, key, ".0f", 100) for key in ("answers_right", "facts_hold")]
    return [*shares, f"{entry['answer_tokens']:.0f}", *moved]


def _told(failure: Failure, entry: dict, right: dict) -> str:
    """A failure: its settings, two answers beside those of the training with nothing wrong, cause and fix."""
    rows = [
        [_cell(good["draft"]), _cell(good["answer"]), _cell(bad["answer"])]
        for good, bad in zip(right["examples"], entry["examples"], strict=True)
    ]
    changed = {
        name: value for name, value in entry["settings"].items() if value != right["settings"][name] and name != "steps"
    }
    told = ", ".join(f"{name} {value:g} in place of {right['settings'][name]:g}" for name, value in changed.items())
    sees = (
        f"{100 * entry['answers_right']:.0f}% of the answers accepted in place of {100 * right['answers_right']:.0f}%, "
        f"facts kept in {100 * entry['facts_hold']:.0f}% in place of {100 * right['facts_hold']:.0f}%, "
        f"{entry['answer_tokens']:.0f} tokens an answer in place of {right['answer_tokens']:.0f}."
    )
    table = markdown_table(["draft", "answer with nothing wrong", "answer of this training"], rows)
    return "\n\n".join(
        [
            f"### {failure.title}{f' ({told})' if told else ''}",
            f"**What one sees.** {sees}",
            table,
            f"**Cause.** {failure.cause}",
            f"**Fix.** {failure.fix}",
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "(nothing)"
