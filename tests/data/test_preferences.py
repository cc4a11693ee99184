"""Loading, validation, truncation and collation of preference pairs, ugly rows included."""

import copy
import json

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.data.template import render
from helpers.data.tokenize import SHORTEST_PROMPT, tokenize_preferences, truncation_report
from helpers.data.trl_format import sft_features
from helpers.data.validate import validate_preferences
from helpers.objective.labels import IGNORE
from tests.conftest import make_pairs

GOOD = {"prompt": "What is S3?", "chosen": "Object storage.", "rejected": "A queue."}


def write_lines(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


# ── load ──


def test_json_lines_with_strings_and_with_messages_load_alike(tmp_path):
    messages = {
        "prompt": [{"role": "user", "content": GOOD["prompt"]}],
        "chosen": [{"role": "assistant", "content": GOOD["chosen"]}],
        "rejected": [{"role": "assistant", "content": GOOD["rejected"]}],
    }
    strings = load_preferences(write_lines(tmp_path / "a.jsonl", GOOD))
    assert strings.to_list() == load_preferences(write_lines(tmp_path / "b.jsonl", messages)).to_list() == [messages]


def test_a_folder_is_read_by_split_and_parquet_round_trips(tmp_path, pairs):
    pairs.to_parquet(tmp_path / "train.parquet")
    write_lines(tmp_path / "heldout.jsonl", *pairs.select(range(2)).to_list())
    assert load_preferences(tmp_path, split="train").to_list() == pairs.to_list()
    assert len(load_preferences(tmp_path, split="heldout")) == 2
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl"):
        load_preferences(tmp_path, split="test")


def test_a_folder_as_datasets_and_the_hub_write_it_is_read_whole_and_in_order(tmp_path, pairs):
    (tmp_path / "one").mkdir()
    pairs.to_parquet(tmp_path / "one" / "train-00000-of-00001.parquet")
    assert load_preferences(tmp_path / "one").to_list() == pairs.to_list()
    middle = len(pairs) // 2
    halves = [pairs.select(range(middle)), pairs.select(range(middle, len(pairs)))]
    for number, half in reversed(list(enumerate(halves))):
        half.to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
        write_lines(tmp_path / f"heldout-{number}.jsonl", *half.to_list())
        write_lines(tmp_path / f"other-{number}.jsonl", GOOD)
    for split in ("train", "heldout"):
        assert load_preferences(tmp_path, split=split).to_list() == pairs.to_list()
    write_lines(tmp_path / "heldout.jsonl", GOOD)
    assert len(load_preferences(tmp_path, split="heldout")) == 1, "a whole file comes before parts"


def test_parts_may_differ_in_columns_that_nobody_reads(tmp_path):
    write_lines(tmp_path / "train-0.jsonl", GOOD | {"score": None})
    write_lines(tmp_path / "train-1.jsonl", GOOD | {"source": "a wiki"})
    assert len(load_preferences(tmp_path)) == 2


def test_a_bad_row_of_a_part_is_named_with_its_file(tmp_path):
    write_lines(tmp_path / "train-0.jsonl", GOOD)
    write_lines(tmp_path / "train-1.jsonl", GOOD, GOOD | {"rejected": ""})
    with pytest.raises(ValueError, match=r"train-1\.jsonl: row 1, rejected: the response is empty"):
        load_preferences(tmp_path)


def test_a_parquet_file_without_a_column_is_named_with_its_mend(tmp_path):
    Dataset.from_list([{"prompt": "x", "chosen": "y", "bad": "z"}]).to_parquet(tmp_path / "mine.parquet")
    says = r"mine\.parquet: no rejected among its columns \(prompt, chosen, bad\); add or rename the column"
    with pytest.raises(ValueError, match=says):
        load_preferences(tmp_path / "mine.parquet")


@pytest.mark.parametrize("limit", [0, -1])
def test_no_pairs_at_all_are_refused(tmp_path, limit):
    with pytest.raises(ValueError, match=f"{limit} pairs were asked for: give at least 1, or no number"):
        load_preferences(write_lines(tmp_path / "a.jsonl", GOOD), limit=limit)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"prompt": "x", ', r"d\.jsonl, line 2: not valid JSON"),
        ("[1, 2]", "line 2: a list"),
        ({"prompt": "x", "chosen": "y"}, "line 2: no rejected"),
        (GOOD | {"chosen": "  "}, "row 1, chosen: the response is empty"),
        (GOOD | {"chosen": []}, "row 1, chosen: is list or empty"),
        (GOOD | {"chosen": "A queue."}, "row 1, rejected: equals the chosen"),
        (
            GOOD | {"prompt": "What does S3 do?", "chosen": "What does S3 do? It stores."},
            "row 1, chosen: repeats the prompt",
        ),
        (
            GOOD | {"prompt": [{"role": "assistant", "content": "hi"}]},
            "row 1, prompt: ends with the assistant",
        ),
        (
            GOOD | {"rejected": [{"role": "user", "content": "hi"}]},
            "row 1, rejected: starts with the role 'user'",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_mend(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message) as error:
        load_preferences(write_lines(tmp_path / "d.jsonl", GOOD, bad))
    assert "\n" not in str(error.value)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no rows"):
        load_preferences(write_lines(tmp_path / "e.jsonl", ""))


def test_validation_reports_every_problem_and_clean_rows_none(pairs):
    report = validate_preferences(pairs)
    assert (report.rows, report.problems) == (len(pairs), [])
    report.raise_if_invalid()
    both = validate_preferences(pairs.rename_column("chosen", "better"))
    assert [problem.column for problem in both.problems] == ["chosen"]


def test_limit_is_a_seeded_sample(tmp_path):
    path = write_lines(tmp_path / "s.jsonl", *[GOOD | {"prompt": f"Question {i}"} for i in range(50)])
    first, again, other = (load_preferences(path, limit=10, seed=seed)["prompt"] for seed in (1, 1, 2))
    assert list(first) == list(again) != list(other)


# ── template and tokenise ──


def test_the_rendered_text_is_the_chat_template_once(pairs, tokenizer):
    example = pairs[2]
    text = render(example, tokenizer)
    whole = tokenizer.apply_chat_template(example["prompt"] + example["chosen"], tokenize=False)
    assert text["prompt"] + text["chosen"] == whole.rstrip("\n")
    assert whole.count("Explain `StartJobRun`.") == 1


def test_prompt_and_response_join_exactly(pairs, tokenizer, tokenized):
    for example, row in zip(pairs, tokenized, strict=True):
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template(example["prompt"] + example[side], tokenize=False).rstrip("\n")
            assert row[f"{side}_input_ids"] == tokenizer(whole, add_special_tokens=False)["input_ids"]
            start, labels = row["prompt_length"], row[f"{side}_labels"]
            assert labels[:start] == [IGNORE] * start
            assert labels[start:] == row[f"{side}_input_ids"][start:]
            assert labels[-1] == tokenizer.eos_token_id


def test_a_template_that_rewrites_the_prompt_is_refused(pairs, tokenizer, monkeypatch):
    monkeypatch.setattr(
        tokenizer, "chat_template", "{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(ValueError, match="no prefix"):
        render(pairs[0], tokenizer)


@given(
    st.integers(0, 150),
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(10, 64),
    st.none() | st.integers(4, 64),
)
@settings(max_examples=60, deadline=None)
def test_truncation_keeps_eos_never_empties_a_response_and_cuts_the_prompt_first(
    tokenizer, p, c, r, max_length, max_prompt
):
    data = make_pairs({"word " * p: ("yes " * c + "a", "no " * r + "b")})
    row = tokenize_preferences(data, tokenizer, max_length, max_prompt)[0]
    start = row["prompt_length"]
    for side in ("chosen", "rejected"):
        ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
        assert len(ids) == len(labels) <= max_length
        assert ids[-1] == labels[-1] == tokenizer.eos_token_id
        assert sum(label != IGNORE for label in labels) >= 2
        assert ids[:start] == row["chosen_input_ids"][:start]
        if row[f"{side}_cut"]:
            assert start <= SHORTEST_PROMPT  # a response is cut only when the prompt has given all it can
    if max_prompt is not None:
        assert start <= max_prompt


def test_the_report_counts_what_was_cut(pairs, tokenizer, tokenized):
    assert "prompt in 0, chosen in 0, rejected in 0" in truncation_report(tokenized)
    assert "prompt in 4" in truncation_report(tokenize_preferences(pairs, tokenizer, max_length=24))


def test_bad_lengths_and_missing_eos_are_refused(pairs, tokenizer):
    with pytest.raises(ValueError, match="max_length is 3"):
        tokenize_preferences(pairs, tokenizer, max_length=3)
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(ValueError, match="no EOS"):
        tokenize_preferences(pairs, endless, max_length=64)


# ── collate ──


def test_pad_equal_to_eos_hides_no_eos(tokenizer, tokenized):
    batch = PreferenceCollator(tokenizer.eos_token_id, "rows")(list(tokenized))
    lengths = [len(row[f"{side}_input_ids"]) for side in ("chosen", "rejected") for row in tokenized]
    assert batch["attention_mask"].sum(-1).tolist() == lengths
    assert all(batch["labels"][i, n - 1] == tokenizer.eos_token_id for i, n in enumerate(lengths))


def test_fixed_shape_is_the_same_for_every_batch(tokenized):
    collate = PreferenceCollator(0, "rows", max_length=96)
    shapes = {collate([row, row])["input_ids"].shape for row in tokenized}
    assert shapes == {(4, 96)}


def test_unknown_layouts_are_refused():
    with pytest.raises(ValueError, match="choose 'rows' or 'shared'"):
        PreferenceCollator(0, "columns")


def test_sft_sees_the_same_tokens_and_labels(tokenized):
    for row, sft in zip(tokenized, sft_features(tokenized), strict=True):
        assert sft["input_ids"] == row["chosen_input_ids"]
        assert [label != IGNORE for label in row["chosen_labels"]] == [bool(m) for m in sft["completion_mask"]]


def test_a_row_longer_than_the_fixed_shape_is_refused(tokenized, tokenizer):
    longest = max(len(row["chosen_input_ids"]) for row in tokenized)
    collate = PreferenceCollator(tokenizer.pad_token_id, "rows", max_length=longest - 1)
    with pytest.raises(ValueError, match=f"tokenise with max_length={longest - 1}"):
        collate(list(tokenized))
