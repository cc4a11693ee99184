"""One evaluation for every method: log-probs of the held-out pairs, chrF of the answers, and where both are kept."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from helpers.data.collate import PreferenceCollator
from helpers.data.door import as_conversations
from helpers.data.load import DOMAINS
from helpers.data.schema import COLUMNS, messages_of, references, template_arguments
from helpers.data.tokenize import tokenize_preferences
from helpers.evaluation.answers import chrf_with_ci, generate_answers, in_bf16
from helpers.evaluation.checked import SAMPLING, can_check, measure_answers, paired_answers, verdicts
from helpers.evaluation.scores import PairScores, measure_pairs, paired_difference
from helpers.evaluation.scoring import answer_lengths, scoring_rules, without_question
from helpers.files import read_json
from helpers.runs.folder import place_of
from helpers.runs.machine import fast_bf16, peak_memory_bytes
from helpers.runs.progress import Bar
from helpers.runs.told import Refused
from helpers.training.base_model import find_base_model
from helpers.training.layout_check import shared_row_obstacle
from helpers.training.recipe import PAIRS_A_BATCH
from helpers.training.stages import trained_as

COMPARED = ("base", "sft", "orpo")  # what notebook 04 compares
GROUPS = ("group", "service")  # columns that say which pairs belong together; `split_by` makes the first
KIND = "rejected_kind"  # the built-in domain's column that says in which way a rejected answer is wrong


def groups_of(dataset) -> list[str] | None:
    """The group or the service of each pair, whose pairs are resampled together; None for pairs that have neither."""
    name = group_column(dataset)
    return list(dataset[name]) if name else None


def group_column(dataset) -> str | None:
    """The column that says which pairs belong together; None where there is none."""
    return next((name for name in GROUPS if name in dataset.column_names), None)


def prompts_of(dataset) -> tuple[list[list[dict]], list[dict]]:
    """The prompts as a chat template should see them, and what else each row gives it (`tools`, …)."""
    rows = list(dataset)
    return [messages_of(row, "prompt") for row in rows], [template_arguments(row) for row in rows]


def heldout_batches(dataset, model, tokenizer, max_length: int) -> list[dict]:
    """Collated batches of a held-out set, in the fastest layout that is right for the model."""
    tokenized = tokenize_preferences(dataset, tokenizer, max_length)
    layout = "rows" if shared_row_obstacle(model, [tokenized], max_length) else "shared"
    collate, rows = PreferenceCollator(tokenizer.pad_token_id, layout), list(tokenized)
    return [collate(rows[start : start + PAIRS_A_BATCH]) for start in range(0, len(rows), PAIRS_A_BATCH)]


def evaluate(run, method: str, model, tokenizer, heldout, profile) -> dict:
    """Measure a model on the held-out pairs, finish the stage `method` with its results and return them.

    What its training took and with which settings is stored with them. A stage that was measured in the same way is not
    measured again. Raises RuntimeError for a model that this stage did not train.
    """
    stage, heldout = run.stage(method), as_conversations(heldout)
    if (name := trained_as(model)) and name != method:
        raise Refused(
            f"this is the model of {name}, not of {method}: run the cell that loads the model of {method} first"
        )
    way = {name: getattr(profile, name) for name in ("generation_prompts", "max_length", "max_new_tokens", "seed")}
    training = stage.training or {"steps": 0, "train_seconds": 0.0, "train_tokens_per_second": None}
    way |= {"heldout": heldout_key(heldout), "steps": training["steps"]}
    if stage.finished and way.items() <= stage.result.items():
        print(f"{stage.path.name}: measured before, on the same pairs")
        return stage.result
    result = measure_heldout(stage, method, model, tokenizer, heldout, profile)
    result["scoring"] = measure_rules(run, method, model, tokenizer, heldout, profile)
    if settings := read_json(stage.path / "settings.json"):
        result["settings"] = settings
    stage.finish(result | {"peak_memory_bytes": peak_memory_bytes()} | training | way)
    return stage.result


def measure_rules(run, method: str, model, tokenizer, heldout, profile) -> dict[str, dict]:
    """Preference accuracy of a measured model by each of `RULES`, from the same answers without a question."""
    asked = read_scores(run.stage(method))
    batches = heldout_batches(without_question(heldout), model, tokenizer, profile.max_length)
    unasked = measure_pairs(model, Bar(batches, desc=f"{method}: without the question"))
    lengths = answer_lengths(heldout, tokenizer, profile.max_length)
    return scoring_rules(asked, unasked, lengths, profile.seed)


def measure_heldout(stage, method: str, model, tokenizer, heldout, profile) -> dict:
    """Log-probs of the held-out pairs, and greedy answers to the first `generation_prompts` of them: chrF, and where
    the checker can judge them, how many it accepts, greedy and sampled.

    The scores of every pair and the answers go to heldout.json in the stage.
    """
    batches = heldout_batches(heldout, model, tokenizer, profile.max_length)
    scores = measure_pairs(model, Bar(batches, desc=f"{method}: log-probs"), groups_of(heldout))
    asked = heldout.select(range(min(profile.generation_prompts, len(heldout))))
    prompts, arguments = prompts_of(asked)
    bf16 = fast_bf16(stage.run.measured_machine())
    speaker = in_bf16(model) if bf16 else model
    ways = {"answers": 0.0} | ({"sampled": SAMPLING} if can_check(asked) else {})
    said = {
        way: generate_answers(
            *(speaker, tokenizer, prompts, profile.max_new_tokens),
            **{"desc": f"{method}: {way}", "temperature": temperature, "seed": profile.seed, "arguments": arguments},
        )
        for way, temperature in ways.items()
    }
    store_heldout(stage, scores, **said)
    result = scores.summary(profile.seed) | {"heldout": heldout_key(heldout), "seed": profile.seed}
    chrf, chrf_ci95 = chrf_with_ci(said["answers"], references(asked), profile.seed, groups_of(asked))
    result |= {"chrf": chrf, "chrf_ci95": chrf_ci95, "chrf_n": len(asked), "answers_in": "bf16" if bf16 else "float32"}
    if can_check(asked):
        judged = [measure_answers(answers, asked, profile.seed, groups_of(asked)) for answers in said.values()]
        result |= judged[0] | {f"sampled_{name}": value for name, value in judged[1].items()}
    return result


def store_heldout(stage, scores: PairScores, **said: list[str]) -> None:
    """Keep the score of every pair and what was said, so that later comparisons can be paired."""
    parts = {"chosen_logp": scores.chosen_logp.tolist(), "rejected_logp": scores.rejected_logp.tolist()}
    stage.write_file("heldout.json", parts | {"groups": scores.groups} | said)


def heldout_key(heldout) -> str:
    """What was evaluated, in a word: how many pairs, and a digest of them. Only results of one key can be compared."""
    pairs = heldout.select_columns(list(COLUMNS)).to_list()
    return f"{len(pairs)} pairs {hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]}"


def require_measured_on(run, methods, heldout) -> None:
    """Raise a ValueError that names the first of the methods that was measured on other held-out pairs than these."""
    key = heldout_key(heldout)
    for method in methods:
        if (found := run.require(method).get("heldout")) != key:
            raise ValueError(f"{method} was measured on other held-out pairs ({found}), not on {key}: measure it again")


def read_scores(stage) -> PairScores:
    """The scores that `store_heldout` kept in a stage."""
    stored = read_json(stage.path / "heldout.json")
    logps = [np.array(stored[name], dtype=np.float32) for name in ("chosen_logp", "rejected_logp")]
    return PairScores(*logps, stored["groups"])


def load_heldout(run, method: str, way: str = "answers") -> tuple[PairScores, list[str]]:
    """Scores, and greedy answers or those of another `way` ("sampled"), that `evaluate` stored.

    A FileNotFoundError names the notebook to run first.
    """
    run.require(method)
    stage = run.stage(method)
    said = read_json(stage.path / "heldout.json")
    if way not in said:
        raise ValueError(f"{method} was measured without {way} answers: measure it again")
    return read_scores(stage), said[way]


def compare(run, before: str, after: str, heldout) -> dict:
    """Measures of method `after` minus those of `before` on the same pairs, with paired 95% intervals.

    The preference accuracy of all pairs, and where the checker judged answers, its shares, greedy and sampled.
    """
    require_measured_on(run, (before, after), heldout)
    scores = [load_heldout(run, method)[0] for method in (before, after)]
    gain, interval = paired_difference(*scores, run.profile.seed)
    comparison = {"preference_accuracy": gain, "preference_accuracy_ci95": list(interval)}
    if not can_check(heldout):
        return comparison
    for way, prefix in {"answers": "", "sampled": "sampled_"}.items():
        said = [load_heldout(run, method, way)[1] for method in (before, after)]
        asked = heldout.select(range(len(said[0])))
        gains = paired_answers(*said, asked, run.profile.seed, groups_of(asked))
        comparison |= {f"{prefix}{name}": value for name, value in gains.items()}
    return comparison


def record_comparison(run, comparison: dict, asked, methods=COMPARED) -> None:
    """Store ORPO − SFT, and the compared methods' answers to the questions `asked`, in results.json.

    Only the methods themselves are stored, no stage that stands beside one with other settings.
    """
    if tuple(methods) != COMPARED:
        print(f"Not recorded: the run's comparison is that of {', '.join(COMPARED)}, not of {', '.join(methods)}")
        return
    said = {method: load_heldout(run, method)[1] for method in methods}
    generations = [
        {"prompt": prompt[-1]["content"], "reference": reference} | {method: texts[i] for method, texts in said.items()}
        for i, (prompt, reference) in enumerate(zip(asked["prompt"], references(asked), strict=True))
    ]
    if can_check(asked):
        for method, texts in said.items():
            for row, verdict in zip(generations, verdicts(texts, asked), strict=True):
                row.setdefault("accepted", {})[method] = verdict.accepted
    run.write_results(orpo_minus_sft=comparison, generations=generations)


def record_data(run, model, train, heldout, source: str | None = None) -> None:
    """Note in results.json which model and which pairs this run is about.

    source: where the pairs came from, which other notebooks of the run load again (`run.source`). Without it they are
    called own pairs. Groups or services,
    and kinds of wrong answers, are counted where the pairs have columns of these names.
    """
    _, reason = find_base_model(run.profile.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    data = {"source": "own pairs"}
    if source is not None:
        here = source not in DOMAINS and Path(source).exists()
        data = {"source": Path(source).name if here else source, "load_from": place_of(source)}
    data |= {"train_pairs": len(train), "heldout_pairs": len(heldout)}
    for name, split in (("train", train), ("heldout", heldout)):
        if column := group_column(split):
            data[f"{name}_{column}s"] = len(set(split[column]))
    if can_check(train):
        chosen = [messages[-1]["content"] for messages in train["chosen"]]
        data["chosen_right"] = measure_answers(chosen, train)["answers_right"]
    if KIND in train.column_names:
        data["rejected_kinds"] = {kind: n / len(train) for kind, n in sorted(Counter(train[KIND]).items())}
    run.write_results(model={"name": run.profile.model, "from": reason, "parameters": parameters}, data=data)
