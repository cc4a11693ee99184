"""Checks of the exercises on notebooks 01 to 04."""

import math
from collections.abc import Callable

import numpy as np
from datasets import Dataset

from helpers.data import validate_preferences
from helpers.evaluation.intervals import percentile_interval
from helpers.exercises.check import check
from helpers.objective import odds_ratio_loss


def _messages(prompt: str, chosen: str, rejected: str) -> dict:
    answers = {"chosen": chosen, "rejected": rejected}
    asked = {"prompt": [{"role": "user", "content": prompt}]}
    return asked | {side: [{"role": "assistant", "content": text}] for side, text in answers.items()}


# ── 01: data ────────────────────────────────────────────────────────────────────────────────────────────────


def six_rows() -> Dataset:
    """Six preference pairs, some of which can't be trained on."""
    return Dataset.from_list(
        [
            _messages("What is S3?", "Object storage.", "A message queue."),
            _messages("What is SQS?", "A message queue.", "A message queue."),
            _messages("What is SNS?", "  ", "Object storage."),
            _messages("What is EC2?", "Virtual machines.", "VIRTUAL MACHINES"),
            _messages("What does KMS do?", "What does KMS do? It manages keys.", "It sends mail."),
            _messages("What is RDS?", "Databases that AWS operates, with backups.", "Mail."),
        ]
    )


@check("Equal answers, an empty answer and a prompt inside an answer teach nothing. The others are at most doubtful.")
def check_unusable(answer) -> str | None:
    """The numbers of the rows in `six_rows` that can't be trained on."""
    report = validate_preferences(six_rows())
    right = {problem.row: problem.wrong for problem in report.problems}
    doubtful = {warning.row: warning.wrong for warning in report.warnings}
    if extra := sorted(set(answer) - set(right)):
        why = f" ({doubtful[extra[0]]}: a warning)" if extra[0] in doubtful else ""
        return f"row {extra[0]} can be trained on{why}: only what teaches nothing is unusable"
    if missing := sorted(set(right) - set(answer)):
        return f"{len(missing)} more can't be trained on: look at the {'chosen' if missing[0] != 1 else 'two'} answers"
    return None


@check("A pair that validation has nothing to say about, and whose length tells nothing.")
def check_pair(answer) -> str | None:
    """A dict of three strings: prompt, chosen, rejected."""
    if not isinstance(answer, dict) or set(answer) != {"prompt", "chosen", "rejected"}:
        return "give a dict with the keys prompt, chosen and rejected"
    report = validate_preferences(Dataset.from_list([_messages(**answer)]))
    if found := [*report.problems, *report.warnings]:
        return str(found[0])
    chosen, rejected = len(answer["chosen"]), len(answer["rejected"])
    if abs(chosen - rejected) > 0.2 * max(chosen, rejected):
        return f"the answers have {chosen} and {rejected} characters: length alone tells them apart; bring them closer"
    return None


@check("One wrong answer a prompt, None where the rule does not apply: load_preferences(rejected={…}) takes it.")
def check_negated(answer) -> str | None:
    """A function (prompts, answers) → wrong answers, in which the first " is " is " is not "."""
    right = ["S3 is a store.", "It stores objects.", "EC2 is what is billed by the second."]
    wrong = ["S3 is not a store.", None, "EC2 is not what is billed by the second."]
    made = answer([[]] * len(right), right)
    if not isinstance(made, list) or len(made) != len(right):
        return f"{len(right)} answers were given: return a list of {len(right)}, with None where nothing can be changed"
    if made[1] is not None:
        return f"{right[1]!r} holds no ' is ', so no wrong answer can be made of it: return None there"
    if made != wrong:
        differs = next(row for row in range(len(right)) if made[row] != wrong[row])
        return f"{right[differs]!r} became {made[differs]!r}, not {wrong[differs]!r}: change the first ' is ' only"
    return None


# ── 02: supervised fine-tuning ──────────────────────────────────────────────────────────────────────────────


@check("Every token of the answer is scored, the one that ends it too, and none of the prompt.")
def check_scored(answer, row: dict) -> str | None:
    """How many tokens of a tokenised row's chosen side the loss counts."""
    total, prompt = len(row["chosen_input_ids"]), row["prompt_length"]
    if answer == total:
        return f"all {total} tokens: the prompt's have the label −100, which is not counted"
    if answer == prompt:
        return "that is the length of the prompt, whose tokens are not counted"
    if answer == total - prompt - 1:
        return "one is missing: the end-of-sequence token is scored too, or the model never learns to stop"
    return None if answer == total - prompt else f"the row has {total} tokens, {prompt} of them belong to the prompt"


@check("The longest answer and the 8 tokens of the prompt that always stay fit, and not one token more.")
def check_shortest_row(answer, tokenize: Callable[[int], Dataset]) -> str | None:
    """The smallest max_length at which no answer is cut; tokenize gives the tokens at a max_length."""
    cut = _answers_cut(tokenize(answer))
    if cut:
        return f"at {answer} tokens {cut} answers are cut: give more"
    return None if _answers_cut(tokenize(answer - 1)) else f"{answer - 1} tokens would do as well: give fewer"


def _answers_cut(tokens: Dataset) -> int:
    return sum(cut > 0 for side in ("chosen_cut", "rejected_cut") for cut in tokens[side])


@check("exp(−mean log-prob): the number of equally likely tokens that would be as hard to guess.")
def check_perplexity(answer) -> str | None:
    """A function from the mean log-prob of tokens, in nats, to the perplexity."""
    for mean_logp in (-2.0, -0.5, 0.0):
        found, right = answer(mean_logp), math.exp(-mean_logp)
        if math.isclose(found, right, rel_tol=1e-6):
            continue
        if math.isclose(found, math.exp(mean_logp), rel_tol=1e-6):
            return "that is the probability per token, which grows as the model gets better; perplexity falls"
        if math.isclose(found, 2**-mean_logp, rel_tol=1e-6):
            return "our log-probs are natural logarithms, in nats: use exp, not 2 to the power"
        return f"a mean log-prob of {mean_logp} gives a perplexity of {right:.3f}, not {found:.3f}"
    return None


# ── 03: the odds ratio ──────────────────────────────────────────────────────────────────────────────────────


@check("odds(0.8) = 0.8 / 0.2 = 4 and odds(0.5) = 1. The probability ratio is 1.6 only.")
def check_odds_ratio(answer) -> str | None:
    """The odds ratio of probability 0.8 against 0.5."""
    if math.isclose(answer, 1.6):
        return "that is the ratio of the probabilities: divide p / (1 − p) of one by that of the other"
    if math.isclose(answer, 0.25):
        return "that is 0.5 against 0.8: the other way round"
    return None if math.isclose(answer, 4.0, rel_tol=1e-6) else "odds are p / (1 − p): those of 0.5 are 1"


@check("L_OR falls as the pair separates, so an equal share needs a larger β late in training than early.")
def check_beta(answer, chosen_logp: float, rejected_logp: float) -> str | None:
    """The beta at which both terms of the ORPO loss of one pair are equal."""
    import torch

    ratio = odds_ratio_loss(*(torch.tensor([value], dtype=torch.float64) for value in (chosen_logp, rejected_logp)))
    imitation, contrast = -chosen_logp, float(ratio)
    if math.isclose(answer, imitation / contrast, rel_tol=0.01):
        return None
    if math.isclose(answer, contrast / imitation, rel_tol=0.01):
        return "upside down: β stands in front of L_OR, so L_SFT = β · L_OR"
    return f"with β = {answer:g} the terms are {imitation:.3f} and {answer * contrast:.3f}: make them equal"


@check("Exact for certain and for unlikely answers: −expm1 keeps the digits that 1 − p loses.")
def check_log_odds(answer) -> str | None:
    """A function from a mean log-prob (a float below 0) to the log-odds, right at both ends."""
    for mean_logp in (math.log(0.5), math.log(0.8), -50.0, -1e-12, -1e-17):
        right = mean_logp - math.log(-math.expm1(mean_logp))
        try:
            found = answer(mean_logp)
        except (ZeroDivisionError, ValueError) as error:
            return f"at a mean log-prob of {mean_logp:g} it stops with “{error}”: 1 − p is 0 there; use math.expm1"
        if mean_logp > -10 and math.isclose(found, mean_logp - math.log1p(math.exp(mean_logp)), rel_tol=1e-9):
            return "a sign: 1 − p is what stands below, not 1 + p"
        if not math.isclose(found, right, rel_tol=1e-6, abs_tol=1e-9):
            return f"at a mean log-prob of {mean_logp:g} it gives {found:.6g}, not {right:.6g}: 1 − p loses its digits"
    return None


# ── 04: ORPO ────────────────────────────────────────────────────────────────────────────────────────────────


@check("Where the interval holds zero, nothing is known: ORPO may keep the facts as well as SFT, or a little worse.")
def check_seeds_apart(answer, runs: list[dict], key: str) -> str | None:
    """In how many recorded runs the 95% interval of ORPO − SFT, stored under `key`, excludes zero."""
    intervals = [run["orpo_minus_sft"][key] for run in runs]
    right = sum(low > 0 or high < 0 for low, high in intervals)
    if answer == right:
        return None
    listed = ", ".join(f"{low:+.3f} to {high:+.3f}" for low, high in intervals)
    why = "one that holds zero tells no difference" if answer > right else "one whose bounds have one sign tells one"
    return f"the intervals are {listed}: {why}"


@check("The half-width shrinks with the square root of n: twice as sharp takes four times the prompts.")
def check_prompts_needed(answer) -> str | None:
    """How many held-out prompts a share near 50% needs, for a 95% interval of at most ±5 points."""
    if not isinstance(answer, int):
        return "give a whole number of prompts"
    half = 1.96 * math.sqrt(0.25 / max(answer, 1))
    if half > 0.05:
        return f"with {answer} prompts the interval is ±{100 * half:.1f} points: take more"
    return None if answer < 400 else f"{answer} are more than it takes: ±{100 * half:.1f} points"


@check(
    "Both models answered the same prompts: resampling prompts keeps their answers together, and the interval small."
)
def check_paired(answer) -> str | None:
    """A function (a, b, resampled) → values of mean(a) − mean(b), one for each row of indices in `resampled`."""
    draw = np.random.default_rng(0)
    hard = draw.random(200)  # what makes a prompt hard for both
    a, b = (hard < 0.65).astype(float), (hard < 0.55).astype(float)
    resampled = draw.integers(0, 200, (2000, 200))
    found = np.asarray(answer(a, b, resampled), dtype=float)
    if found.shape != (2000,):
        return f"return one difference for each of the 2,000 resamples, not an array of shape {found.shape}"
    right = percentile_interval((a[resampled] - b[resampled]).mean(axis=1))
    low, high = percentile_interval(found)
    if np.allclose([low, high], right, atol=1e-9):
        return None
    if math.isclose(low, -right[1], abs_tol=1e-9):
        return "the sign: a − b"
    if high - low > 1.3 * (right[1] - right[0]):
        return (
            f"the interval is {high - low:.2f} wide, {right[1] - right[0]:.2f} would do: use the same resample for both"
        )
    return f"the interval is {low:.3f} to {high:.3f}, not {right[0]:.3f} to {right[1]:.3f}"
