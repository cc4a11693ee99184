"""Splits of a source that has none: disjoint, stable as data grows, whole groups, or by time."""

import json

import pytest
from datasets import Dataset

from helpers.data.load import load_preferences
from helpers.data.splits import place_of, places_by_time, prompt_text

SPLITS = ("train", "validation", "heldout")


def rows(count, **more):
    return [
        {"prompt": f"Question {i}?", "chosen": "Yes.", "rejected": "No."} | {key: make(i) for key, make in more.items()}
        for i in range(count)
    ]


def write(path, data):
    path.write_text("\n".join(map(json.dumps, data)), encoding="utf-8")
    return path


def questions(path, split, **options):
    return {prompt[-1]["content"] for prompt in load_preferences(path, split=split, **options)["prompt"]}


def test_a_split_by_prompt_takes_every_row_once_and_stays_as_data_grows(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(200))
    first = {split: questions(path, split, split_by="prompt") for split in SPLITS}
    assert sum(map(len, first.values())) == 200 == len(set.union(*first.values()))
    assert 10 <= len(first["heldout"]) <= 30 and 10 <= len(first["validation"]) <= 30
    write(path, [*reversed(rows(400)), *rows(3)])
    for split in SPLITS:
        assert questions(path, split, split_by="prompt") >= first[split], "no question moves to another split"


def test_copies_of_a_prompt_lie_in_one_split():
    texts = [prompt_text([{"role": "user", "content": text}]) for text in ("What is  S3?", "what is s3?\n")]
    assert texts[0] == texts[1] and place_of(texts[0]) == place_of(texts[1])
    assert 0 <= place_of("a") < 1 and place_of("a") == pytest.approx(0.2538, abs=1e-4), "the same on every machine"


def test_a_group_is_never_torn_and_is_kept_for_the_intervals(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(300, customer=lambda i: i % 30))
    groups = {split: set(load_preferences(path, split=split, split_by="customer")["group"]) for split in SPLITS}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 30
    write(path, [*rows(3, customer=lambda i: i), *rows(1)])
    with pytest.raises(ValueError, match=r"mine\.jsonl: row 3, customer: is empty or missing; write it in every row"):
        load_preferences(path, split_by="customer")


def test_a_group_is_kept_where_the_splits_are_there_already(tmp_path):
    for name in ("train", "validation", "heldout"):
        write(tmp_path / f"{name}.jsonl", rows(2, customer=lambda i: i))
    assert load_preferences(tmp_path, split="heldout", split_by="customer")["group"][:] == ["0", "1"]


def test_by_time_the_newest_rows_are_held_out(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(20, day=lambda i: f"2026-01-{i // 2 + 1:02}"))
    by = {"split_by": "time:day"}
    assert questions(path, "heldout", **by) == {"Question 18?", "Question 19?"}
    assert questions(path, "validation", **by) == {"Question 16?", "Question 17?"}
    assert len(questions(path, "train", **by)) == 16
    write(path, rows(20, day=lambda i: i or "today"))
    with pytest.raises(ValueError, match=r"mine\.jsonl, day: its values can't be compared: write all times in one way"):
        load_preferences(path, **by)
    assert places_by_time([3, 1, 2, 3]) == [0.0, 0.75, 0.5, 0.0]


def test_splits_that_are_there_are_kept_and_only_others_are_made(tmp_path):
    write(tmp_path / "train.jsonl", rows(100))
    write(tmp_path / "test.jsonl", [{"prompt": "held", "chosen": "a", "rejected": "b"}])
    assert questions(tmp_path, "heldout", split_by="prompt") == {"held"}
    train, watched = (questions(tmp_path, split, split_by="prompt") for split in ("train", "validation"))
    assert len(train) + len(watched) == 100 and watched and not train & watched
    with pytest.raises(
        FileNotFoundError, match=r"no split 'validation' in .*, which has test, train: add validation\.j"
    ):
        load_preferences(tmp_path, split="validation")


def test_a_file_gives_no_training_rows_as_held_out(tmp_path):
    path = write(tmp_path / "mine.jsonl", rows(50))
    with pytest.raises(
        ValueError, match=r"for the split 'heldout' give a folder .*, or split_by='prompt' to hold a tenth"
    ):
        load_preferences(path, split="heldout")
    with pytest.raises(
        ValueError, match=r"mine\.jsonl: none of 1 pairs falls into the split 'heldout': give more pairs"
    ):
        load_preferences(write(path, rows(1)), split="heldout", split_by="prompt")


def test_splits_are_the_same_in_memory_and_on_disk(tmp_path, monkeypatch):
    path = write(tmp_path / "mine.jsonl", rows(100, day=lambda i: i, customer=lambda i: i % 9))
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    ways = ("prompt", "time:day", "customer")
    in_memory = [load_preferences(path, split="validation", split_by=way).to_list() for way in ways]
    monkeypatch.setattr("helpers.data.build.LARGE", 0)
    assert [load_preferences(path, split="validation", split_by=way).to_list() for way in ways] == in_memory
    assert isinstance(load_preferences(path), Dataset)
