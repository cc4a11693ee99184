"""Evaluation by a trainer of pairs: against each answer alone, under any prefix, of one data set or of several."""

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import EarlyStoppingCallback

from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import smoke_model
from helpers.training.dpo import DPOConfig, DPOTrainer
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from tests.conftest import make_pairs

BETA = 0.5
MARGIN = "rewards/margins"
EASY = make_pairs({f"Question {i}": ("yes " * (i + 1), "no " * (5 - i)) for i in range(5)})
HARD = make_pairs({f"Task {i}": ("done, and it took a while", "never " * (i + 1)) for i in range(3)})
TEXT = Dataset.from_list([{"prompt": f"Task {i}", "chosen": "done", "rejected": "never " * (i + 1)} for i in range(3)])
BACKWARDS = EASY.rename_columns({"chosen": "rejected", "rejected": "chosen"})


def config(folder, kind=ORPOConfig, **changes):
    plain = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "max_length": 96, "max_steps": 4}
    plain |= {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_steps": 4}
    return kind(output_dir=str(folder), beta=BETA, learning_rate=1e-3, **plain | changes)


def make(folder, tokenizer, eval_dataset=HARD, model=None, callbacks=None, **changes):
    args = config(folder, **changes)
    model = model or smoke_model(0)
    return ORPOTrainer(model, args, EASY, eval_dataset, processing_class=tokenizer, callbacks=callbacks)


def margin(model, pairs, tokenizer) -> float:
    """The mean reward margin, from one answer's logits after the other."""
    found = []
    for row in tokenize_preferences(pairs, tokenizer, 96):
        means = []
        for side in ("chosen", "rejected"):
            ids = torch.tensor([row[f"{side}_input_ids"]])
            with torch.no_grad():
                logps = model(ids).logits[0, :-1].double().log_softmax(-1)
            means.append(logps.gather(1, ids[0, 1:, None])[row["prompt_length"] - 1 :].mean().item())
        found.append(BETA * (means[0] - means[1]))
    return sum(found) / len(found)


def close(value: float):
    return pytest.approx(value, rel=1e-4, abs=1e-6)


def test_another_prefix_has_every_value_and_leaves_nothing_behind(tmp_path, tokenizer):
    trainer = make(tmp_path, tokenizer)
    before = trainer.evaluate()
    test = trainer.evaluate(trainer.train_dataset, metric_key_prefix="test")
    assert {name.removeprefix("test_") for name in test} == {name.removeprefix("eval_") for name in before}
    assert test[f"test_{MARGIN}"] == close(margin(trainer.model, EASY, tokenizer))
    assert before[f"eval_{MARGIN}"] == close(margin(trainer.model, HARD, tokenizer)) != close(test[f"test_{MARGIN}"])
    again = trainer.evaluate()
    assert {name: again[name] for name in again if "/" in name} == {
        name: before[name] for name in before if "/" in name
    }
    assert trainer.predict(HARD).metrics[f"test_{MARGIN}"] == before[f"eval_{MARGIN}"]


def test_evaluating_on_the_way_changes_nothing_that_training_logs(tmp_path, tokenizer):
    lines = []
    for changes in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        trainer = make(tmp_path, tokenizer, **changes)
        trainer.train()
        lines.append(next(line for line in trainer.state.log_history if "loss" in line))
    assert lines[0] == lines[1]


@pytest.mark.parametrize("kind", [dict, DatasetDict])
def test_several_evaluation_sets_have_values_of_their_own(tmp_path, tokenizer, kind):
    best = {"eval_strategy": "steps", "metric_for_best_model": f"eval_hard_{MARGIN}"}
    trainer = make(tmp_path, tokenizer, kind(easy=EASY, hard=HARD), **best)
    found = trainer.evaluate()
    for name, pairs in {"easy": EASY, "hard": HARD}.items():
        expected = close(margin(trainer.model, pairs, tokenizer))
        assert found[f"eval_{name}_{MARGIN}"] == expected
        assert trainer.evaluate(name)[f"eval_{MARGIN}"] == expected
        assert trainer.evaluate({name: pairs})[f"eval_{name}_{MARGIN}"] == expected


def test_several_sets_to_train_on_are_one_line(tmp_path, tokenizer):
    with pytest.raises(ValueError, match=r"train_dataset is a dict of data sets \(train\): give one split"):
        ORPOTrainer(smoke_model(0), config(tmp_path), DatasetDict(train=EASY), processing_class=tokenizer)


@pytest.mark.parametrize(("settings", "kind"), [(ORPOConfig, ORPOTrainer), (DPOConfig, DPOTrainer)])
@pytest.mark.parametrize("pairs", [HARD, TEXT])
def test_pairs_as_they_are_can_be_evaluated(tmp_path, tokenizer, settings, kind, pairs):
    """As the constructor takes them; DPO's margins of the model that is the reference are 0."""
    args = config(tmp_path, settings)
    given = kind(smoke_model(0), args, EASY, pairs, processing_class=tokenizer).evaluate()
    later = kind(smoke_model(0), args, EASY, processing_class=tokenizer).evaluate(pairs)
    for name in ("eval_loss", f"eval_{MARGIN}", "eval_logps/chosen"):
        assert later[name] == given[name]


def test_rows_that_come_later_are_held_to_the_model_too(tmp_path, tokenizer):
    trainer = make(tmp_path, tokenizer, max_length=None)
    trainer.model.config.max_position_embeddings = 64
    long = make_pairs({"Why?": ("yes " * 100, "no")})
    with pytest.raises(ValueError, match=r"eval_dataset, row 0: \d+ tokens, and the model has 64 positions"):
        trainer.evaluate(long)


@pytest.mark.parametrize("evaluation", ["alone", "on the way"])
def test_a_row_that_is_not_finite_is_named_as_one_of_the_evaluation(tmp_path, tokenizer, evaluation):
    """Its token is in no other row."""
    model = smoke_model(0)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # else every logit is NaN
    held_out = make_pairs({"A": ("yes", "no"), "B": ("yes", "no"), "C": ("yes", "zebra"), "D": ("yes", "no")})
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer("zebra")["input_ids"]] = float("nan")
    changes = {} if evaluation == "alone" else {"eval_strategy": "steps", "eval_steps": 1}
    trainer = make(tmp_path, tokenizer, held_out, model, layout="rows", **changes)
    with pytest.raises(FloatingPointError, match=r"the log-prob of evaluation row \[2\] is not finite"):
        trainer.evaluate() if evaluation == "alone" else trainer.train()


def test_the_best_margin_stops_training_and_its_model_is_kept(tmp_path, tokenizer):
    """What is good in training is bad in this evaluation: its margin falls from the first step on."""
    changes = {"max_steps": 9, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    changes |= {"load_best_model_at_end": True, "metric_for_best_model": f"eval_{MARGIN}", "greater_is_better": True}
    trainer = make(tmp_path, tokenizer, BACKWARDS, callbacks=[EarlyStoppingCallback(2)], **changes)
    trainer.train()
    margins = [line[f"eval_{MARGIN}"] for line in trainer.state.log_history if f"eval_{MARGIN}" in line]
    assert margins == sorted(margins, reverse=True) and trainer.state.global_step == len(margins) == 3
    assert trainer.state.best_metric == margins[0] > margins[1]
    assert trainer.evaluate()[f"eval_{MARGIN}"] == close(margins[0])
    assert margin(trainer.model.eval(), BACKWARDS, tokenizer) == close(margins[0])
