"""Held-out numbers against independent references: float64, sacrebleu, row-by-row generation, hand-worked cases."""

import math

import numpy as np
import pytest
import sacrebleu
import torch
from transformers import LlamaForCausalLM

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.evaluation import answers as answers_module
from helpers.evaluation.answers import chrf_with_ci, generate_answers
from helpers.evaluation.heldout import (
    evaluate,
    heldout_key,
    load_heldout,
    record_data,
    store_heldout,
)
from helpers.evaluation.intervals import bootstrap_ci, interval_text, mean_and_interval, resample_weights
from helpers.evaluation.kinds import accuracy_by_kind
from helpers.evaluation.scores import PairScores, measure_pairs, paired_difference
from helpers.evaluation.tables import comparison_table, expected_table, markdown_table
from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.training.base_model import smoke_model
from helpers.training.profiles import PROFILES

# ── the bootstrap ───────────────────────────────────────────────────────────────────────────────────────────


def test_resamples_draw_as_many_items_as_there_are():
    weights = resample_weights(7, seed=0)
    assert weights.shape == (2000, 7) and (weights.sum(axis=1) == 7).all()
    assert weights.mean() == pytest.approx(1)


def test_groups_are_drawn_whole():
    groups = ["a", "b", "a", "c", "b", "a"]
    weights = resample_weights(6, seed=0, groups=groups)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()


def test_interval_agrees_with_the_normal_one():
    values = np.random.default_rng(1).normal(size=2000)
    low, high = bootstrap_ci(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_pairs_that_resemble_each_other_widen_the_interval():
    values = np.repeat(np.random.default_rng(1).normal(size=40), 10)
    low, high = bootstrap_ci(values)
    low_grouped, high_grouped = bootstrap_ci(values, groups=np.repeat(np.arange(40), 10))
    assert high_grouped - low_grouped > 2 * (high - low)


def test_constant_values_have_no_spread_and_bad_input_is_named():
    assert bootstrap_ci([0.25] * 9) == [0.25, 0.25]
    with pytest.raises(ValueError, match="no values to resample"):
        bootstrap_ci([])
    with pytest.raises(ValueError, match="3 items but 2 groups"):
        bootstrap_ci([1, 2, 3], groups=["a", "b"])


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────────


def scores(chosen, rejected, groups=None) -> PairScores:
    return PairScores(np.array(chosen, dtype=np.float32), np.array(rejected, dtype=np.float32), groups)


def test_summary_worked_by_hand():
    chosen, rejected = [-1.0, -2.0, -3.0, -1.5], [-2.0, -1.0, -3.0, -2.5]
    summary = scores(chosen, rejected).summary()
    assert summary["n"] == 4
    assert summary["preference_accuracy"] == (1 + 0 + 0.5 + 1) / 4  # a tie is half a win
    assert summary["chosen_logp"] == pytest.approx(-1.875) and summary["rejected_logp"] == pytest.approx(-2.125)
    assert summary["perplexity"] == pytest.approx(math.exp(1.875))

    def odds(logp):
        return math.log(math.exp(logp) / (1 - math.exp(logp)))

    expected = np.mean([odds(c) - odds(r) for c, r in zip(chosen, rejected, strict=True)])
    assert summary["log_odds_difference"] == pytest.approx(expected, abs=1e-6)


def test_paired_difference_worked_by_hand():
    a = scores([-1, -2, -1, -2], [-2, -1, -2, -1])  # wins 1 0 1 0
    b = scores([-1, -1, -1, -2], [-2, -2, -2, -1])  # wins 1 1 1 0
    gain, (low, high) = paired_difference(a, b)
    assert gain == 0.25 and low == 0.0 and high == 0.75
    assert paired_difference(a, a) == (0.0, [0.0, 0.0])
    assert paired_difference(b, a)[0] == -0.25
    with pytest.raises(ValueError, match="4 pairs against 1"):
        paired_difference(a, scores([-1], [-2]))


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    wins = rng.random(200) < 0.7
    better = wins | (rng.random(200) < 0.2)
    a, b = (scores(np.where(w, -1, -2), np.full(200, -1.5)) for w in (wins, better))
    low, high = paired_difference(a, b)[1]
    (low_a, high_a), (low_b, high_b) = (bootstrap_ci(x.wins) for x in (a, b))
    assert high - low < math.hypot(high_a - low_a, high_b - low_b)


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_measure_pairs_against_one_row_at_a_time_in_float64(model, tokenized, tokenizer, layout):
    collate = PreferenceCollator(tokenizer.pad_token_id, layout)
    rows = list(tokenized)
    model.train()
    measured = measure_pairs(model, [collate(rows[:3]), collate(rows[3:])], ["a"] * len(rows))
    assert model.training, "the mode the model was in comes back"
    exact = model.double().eval()
    for i, row in enumerate(rows):
        for side, value in (("chosen", measured.chosen_logp[i]), ("rejected", measured.rejected_logp[i])):
            ids, labels = torch.tensor([row[f"{side}_input_ids"]]), row[f"{side}_labels"]
            with torch.no_grad():
                logps = exact(input_ids=ids).logits[0].log_softmax(-1)
            picked = [logps[t - 1, label].item() for t, label in enumerate(labels) if label >= 0]
            assert value == pytest.approx(np.mean(picked), abs=1e-5)


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_answers_of_a_padded_batch_equal_those_given_one_by_one(model, pairs, tokenizer):
    model.lm_head.weight = torch.nn.Parameter(0.5 * torch.randn_like(model.lm_head.weight))  # untied: it says something
    prompts = list(pairs["prompt"])
    together = generate_answers(model, tokenizer, prompts, max_new_tokens=6)
    alone = [generate_answers(model, tokenizer, [prompt], max_new_tokens=6)[0] for prompt in prompts]
    assert together == alone == generate_answers(model, tokenizer, prompts, 6, batch_size=3)
    assert any(together)


def test_the_bar_moves_with_every_token_and_changes_no_answer(model, pairs, tokenizer, monkeypatch):
    """Two batches of two, up to the number of prompts and no further."""
    size, drawn = model.lm_head.weight.shape, torch.Generator().manual_seed(0)
    model.lm_head.weight = torch.nn.Parameter(0.5 * torch.randn(size, generator=drawn))
    asked = {"prompts": list(pairs["prompt"])[:4], "max_new_tokens": 6, "batch_size": 2, "temperature": 1.0}
    moves = []

    class Watched(answers_module.Bar):
        def update(self, n=1):
            moves.append(self.n + n)
            return super().update(n)

    monkeypatch.setattr(answers_module, "Bar", Watched)
    ticking, generate = generate_answers(model, tokenizer, **asked), model.generate
    monkeypatch.setattr(model, "generate", lambda stopping_criteria, **given: generate(**given))
    without = generate_answers(model, tokenizer, **asked)
    assert ticking == without and any(ticking)
    ticks, batches = moves[:-2], moves[-2:]
    assert batches == [2, 4] and 2 in ticks and ticks == sorted(ticks) and ticks[-1] == 4
    assert ticks[0] == pytest.approx(2 / 6) and len(ticks) > 6


def test_sampled_answers_follow_the_seed_and_leave_the_random_state(model, pairs, tokenizer):
    size, drawn = model.lm_head.weight.shape, torch.Generator().manual_seed(0)  # another draw may hold two equal words
    model.lm_head.weight = torch.nn.Parameter(0.5 * torch.randn(size, generator=drawn))
    prompts = list(pairs["prompt"])
    before = torch.get_rng_state()
    first, again, other = (
        generate_answers(model, tokenizer, prompts, 6, temperature=1.0, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other
    cold = generate_answers(model, tokenizer, prompts, 6, temperature=1e-4)
    assert cold == generate_answers(model, tokenizer, prompts, 6), "near temperature 0 it is greedy"
    with pytest.raises(ValueError, match="temperature is -1"):
        generate_answers(model, tokenizer, prompts, 6, temperature=-1)


class Says(LlamaForCausalLM):
    """Says the tokens of `script`, whatever it is asked."""

    script: tuple[int, ...] = ()

    def forward(self, input_ids=None, **given):
        output = super().forward(input_ids=input_ids, **given)
        output.logits.fill_(0)[:, -1, self.script[min(self.said, len(self.script) - 1)]] = 1
        self.said += 1
        return output


@pytest.mark.parametrize("stops", ["list", "one", "none"])
def test_an_answer_ends_at_every_stop_token_of_the_model_and_at_the_tokenizers(model, tokenizer, stops):
    """As Gemma, Llama 3 and Qwen's base end a turn with another token than the tokenizer's EOS."""
    turn_end, says = tokenizer.convert_tokens_to_ids("<repo_name>"), Says(model.config)
    own = {"list": [tokenizer.eos_token_id, turn_end], "one": turn_end, "none": None}[stops]
    says.generation_config.eos_token_id = own
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Paris.", " And then")]
    says.script, says.said = (*words[0], turn_end, *words[1], tokenizer.eos_token_id, *words[1]), 0
    (answer,) = generate_answers(says, tokenizer, [[{"role": "user", "content": "Capital?"}]], 24)
    assert answer == ("Paris. And then" if stops == "none" else "Paris.")


ANSWERS = ["Lists the topics.", "Deletes a queue now.", "", "Starts a job run in the catalog."]
REFERENCES = ["Lists the topics in a cluster.", "Returns the URL of a queue.", "Creates a stream.", "Starts a job run."]


def test_chrf_is_sacrebleus():
    score, (low, high) = chrf_with_ci(ANSWERS, REFERENCES)
    assert score == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score, abs=1e-9)
    assert low <= score <= high
    assert chrf_with_ci(REFERENCES, REFERENCES) == (pytest.approx(100), pytest.approx([100, 100]))
    with pytest.raises(ValueError, match="3 answers for 4 references"):
        chrf_with_ci(ANSWERS[:3], REFERENCES)


def test_table_has_a_column_a_method_and_every_value():
    result = scores([-1.0, -2.0], [-2.0, -1.5]).summary() | {"chrf": 12.345, "chrf_ci95": [10, 15]}
    lines = comparison_table({"base": result, "orpo": result | {"train_seconds": 61.2}}).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}
    assert cells["held out"] == ["base", "ORPO"]
    assert cells["training seconds"] == ["—", "61"]
    assert cells["chrF of answers"] == ["12.3 (10.0 to 15.0)"] * 2
    assert cells["preference accuracy"][0].startswith("50% (")


# ── pairs of one's own: prompt, chosen and rejected, and no other column ────────────────────────────────────


@pytest.fixture(scope="module")
def own_run(tmp_path_factory, pairs, tokenizer):
    """A run on four pairs without `service` and `rejected_kind`: base and ORPO evaluated, the data noted."""
    run = Run(tmp_path_factory.mktemp("own") / "run", PROFILES["smoke"])
    model = smoke_model(seed=0)
    record_data(run, model, pairs, pairs)
    for method in ("base", "orpo"):
        evaluate(run, method, model, tokenizer, pairs, run.profile)
    return run


def test_own_pairs_are_evaluated_and_resampled_one_by_one(own_run, pairs):
    scores, answers = load_heldout(own_run, "base")
    assert scores.groups is None and len(scores.wins) == len(pairs) == len(answers)
    result = own_run.results["methods"]["base"]
    assert result["preference_accuracy_ci95"] == bootstrap_ci(scores.wins, own_run.profile.seed)
    assert paired_difference(scores, load_heldout(own_run, "orpo")[0]) == (0.0, [0.0, 0.0])


def test_own_data_is_noted_without_services_and_kinds(own_run, pairs):
    assert own_run.results["data"] == {"source": "own pairs", "train_pairs": len(pairs), "heldout_pairs": len(pairs)}
    record_data(own_run, smoke_model(), pairs, pairs, source="pairs.jsonl")
    assert own_run.results["data"]["source"] == "pairs.jsonl"


def test_built_in_data_is_noted_with_services_and_kinds(tmp_path, model):
    train, heldout = (load_preferences("aws-api", split, limit=20) for split in ("train", "heldout"))
    run = Run(tmp_path / "run", PROFILES["smoke"])
    record_data(run, model, train, heldout, "aws-api")
    data = run.results["data"]
    assert data["source"] == "aws-api" and data["train_services"] == len(set(train["service"]))
    assert sum(data["rejected_kinds"].values()) == pytest.approx(1)


def test_accuracy_by_kind_names_the_column_that_own_pairs_lack(own_run, pairs):
    with pytest.raises(ValueError, match="no column 'rejected_kind': add one"):
        accuracy_by_kind(own_run, pairs)


def test_accuracy_by_kind_worked_by_hand(own_run, pairs):
    """Two pairs a kind; a method measured on other pairs is refused by name."""
    stage = own_run.stage("sft")
    store_heldout(stage, scores([-1, -1, -2, -1], [-2, -2, -1, -2]), answers=[])  # wins 1 1 0 1
    store_heldout(own_run.stage("dpo"), scores([-1], [-2]), answers=[])
    own_run.write_results(methods={"sft": {"heldout": heldout_key(pairs)}, "dpo": {"heldout": "1 pairs"}})
    kinds = pairs.add_column("rejected_kind", ["b", "a", "b", "a"])
    with pytest.raises(ValueError, match="dpo was measured on other held-out pairs"):
        accuracy_by_kind(own_run, kinds, ("sft", "dpo"))
    found = accuracy_by_kind(own_run, kinds)
    assert list(found) == ["a", "b"] and found["a"]["n"] == found["b"]["n"] == 2
    assert (found["a"]["sft"], found["b"]["sft"]) == (1.0, 0.5)
    assert set(found["a"]) == {"n", "base", "orpo", "sft"}


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_interval_as_text():
    assert interval_text(0.67, (0.61, 0.735), ".0%") == "67% (61% to 74%)"
    assert interval_text(0.145, [0.098, 0.192], "+.1f", scale=100) == "+14.5 (+9.8 to +19.2)"
    assert interval_text(2.6, (2.45, 2.65), ".2f", unit=" ×") == "2.60 × (2.45 to 2.65)"


def test_more_seeds_than_the_table_of_student_has_say_so():
    with pytest.raises(ValueError, match="11 seeds: the table of Student's t ends at 10"):
        mean_and_interval([1.0] * 11)


def test_a_markdown_table_has_one_line_a_row_and_is_aligned_for_terminals():
    rows = [["a", "1"], ["bb", ""]]
    assert markdown_table(["x", "long head"], rows) == "| x | long head |\n|---|---|\n| a | 1 |\n| bb | |"
    aligned = markdown_table(["x", "long head"], rows, aligned=True).splitlines()
    assert aligned[1] == "| -- | --------- |" and aligned[3] == "| bb |           |"


def test_the_expected_values_are_the_lowest_and_the_highest_of_the_recorded_runs():
    runs = recorded_runs("laptop")
    lines = expected_table(runs).splitlines()
    for label, key in (("answers accepted, greedy", "answers_right"), ("preference accuracy", "preference_accuracy")):
        found = sorted(run["methods"]["orpo"][key] for run in runs)
        (line,) = (line for line in lines if label in line)
        assert line.split("|")[-2].strip() == f"{found[0]:.0%} to {found[-1]:.0%}"
    assert lines[0].split("|")[1].strip() == "recorded, seeds 0, 1, 2" and "2026-" in lines[-1]
