"""Data of one's own from a file to results.json: load, validate, train, evaluate, record."""

import json

import pytest
from datasets import Dataset

from helpers.data.load import BUILT_IN, load_preferences
from helpers.data.tokenize import tokenize_preferences
from helpers.data.validate import validate_preferences
from helpers.evaluation.baselines import evaluate_baselines
from helpers.evaluation.heldout import evaluate, groups_of, prompts_of, record_data
from helpers.runs.folder import Run
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.profiles import PROFILES


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.jsonl"
    answers = [(f"How do I return order {i}?", f"Open order {i} and press Return.", "Call us.") for i in range(40)]
    rows = [
        dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) | {"shop": f"s{i % 8}"}
        for i, row in enumerate(answers)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_own_pairs_go_the_whole_way(own_file, tmp_path, tokenizer):
    train, heldout = (load_preferences(own_file, split=split, split_by="prompt") for split in ("train", "heldout"))
    validate_preferences(train).raise_if_invalid()
    model, run = smoke_model(), Run(tmp_path / "run", PROFILES["smoke"])
    args = ORPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        max_length=128,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    pairs = tokenize_preferences(train.select(range(4)), tokenizer, 128)
    ORPOTrainer(model=model, args=args, train_dataset=pairs, processing_class=tokenizer).train()
    assert run.source == BUILT_IN
    record_data(run, model, train, heldout, source=own_file)
    assert run.source == str(own_file) and load_preferences(run.source).num_rows == 40
    result = evaluate(run, "orpo", model, tokenizer, heldout, run.profile)
    assert result["n"] == len(heldout) > 0 and len(result["preference_accuracy_ci95"]) == 2
    assert set(evaluate_baselines(run, train, heldout)) == {
        "shorter",
        "word_matching",
        "rare_words",
        "logistic_regression",
    }
    sizes = {"train_pairs": len(train), "heldout_pairs": len(heldout)}
    assert run.results["data"] == {"source": "mine.jsonl", "load_from": str(own_file)} | sizes


def test_groups_of_a_split_are_resampled_together_and_counted(own_file, tmp_path):
    train, heldout = (load_preferences(own_file, split=split, split_by="shop") for split in ("train", "validation"))
    assert set(groups_of(heldout)) <= {f"s{i}" for i in range(8)}
    run = Run(tmp_path / "run", PROFILES["smoke"])
    record_data(run, smoke_model(), train, heldout)
    assert run.results["data"]["train_groups"] + run.results["data"]["heldout_groups"] <= 8


def test_what_is_asked_in_evaluation_has_the_row_s_tools(tmp_path):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    asked = [{"role": "user", "content": "q"}, call, {"role": "tool", "content": "2"}]
    row = {"prompt": asked, "chosen": "a", "rejected": "b", "tools": [{"name": "f"}]}
    prompts, arguments = prompts_of(load_preferences([row, {"prompt": "x", "chosen": "a", "rejected": "b"}]))
    assert prompts == [asked, [{"role": "user", "content": "x"}]]
    assert arguments == [{"tools": [{"name": "f"}]}, {}]


def test_rows_that_were_not_loaded_are_evaluated_as_loaded_ones(own_file, tmp_path, tokenizer):
    """A data set as people hand it over: plain text, and a system text in a column of its own."""
    loaded = load_preferences(own_file, split="heldout", split_by="prompt")
    texts = [{side: messages[-1]["content"] for side, messages in row.items() if side != "group"} for row in loaded]
    raw = Dataset.from_list([row | {"system": "Be brief."} for row in texts])
    system = {"role": "system", "content": "Be brief."}
    with_system = loaded.map(lambda row: {"prompt": [system, *row["prompt"]]}, load_from_cache_file=False)
    runs = [Run(tmp_path / name, PROFILES["smoke"]) for name in ("raw", "loaded")]
    results = [
        evaluate(run, "orpo", smoke_model(), tokenizer, rows, run.profile)
        for run, rows in zip(runs, (raw, with_system), strict=True)
    ]
    same = ("n", "chosen_logp", "rejected_logp", "preference_accuracy", "chrf", "scoring")
    assert {name: results[0][name] for name in same} == {name: results[1][name] for name in same}
    baselines = [evaluate_baselines(runs[0], rows, rows) for rows in (raw, with_system)]
    assert baselines[0] == baselines[1]
    bad = Dataset.from_list([*with_system, with_system[0] | {"rejected": with_system[0]["chosen"]}])
    with pytest.raises(ValueError, match=f"row {len(loaded)}, rejected: equals the chosen response"):
        evaluate(Run(tmp_path / "bad", PROFILES["smoke"]), "orpo", smoke_model(), tokenizer, bad, runs[0].profile)
