"""What `make record` keeps of a run: under which name, and without the places of this machine."""

import json

import pytest

from scripts import record_results

DONE = {"01": {"seconds": 1.26, "cells": [0.5, 0.76]}, "02": {"seconds": 9.0, "resumed": True}, "03": {"seconds": 2}}


def recorded(tmp_path, monkeypatch, results: dict) -> tuple[str, dict]:
    """(name of the file, what it holds) after recording a finished run with these results."""
    monkeypatch.setattr(record_results, "results_folder", lambda: tmp_path / "results")
    run = tmp_path / "run"
    run.mkdir()
    (run / "state.json").write_text(json.dumps({"status": "finished", "done": DONE}))
    (run / "results.json").write_text(json.dumps({"profile": "laptop", "seed": 3, "methods": {}} | results))
    target = record_results.record(run)
    return target.name, json.loads(target.read_text(encoding="utf-8"))


def test_the_lesson_is_named_by_profile_and_seed(tmp_path, monkeypatch):
    name, kept = recorded(tmp_path, monkeypatch, {"data": {"source": "house-style", "load_from": "house-style"}})
    assert name == "laptop-seed3.json" and kept["notebook_seconds"] == {"01": 1.3, "03": 2}
    assert kept["cell_seconds"] == {"01": [0.5, 0.76]}, "where they were noted"


@pytest.mark.parametrize("place", ["/home/ann/my pairs.jsonl", 'C:\\data\\"my pairs".jsonl'])
def test_pairs_of_ones_own_are_named_and_their_place_is_left_out(tmp_path, monkeypatch, place):
    settings = {"settings": {"source": place, "beta": 1.5}}
    data = {"source": "my pairs.jsonl", "load_from": place}
    name, kept = recorded(tmp_path, monkeypatch, {"data": data, "methods": {"sft": settings}})
    assert name == "laptop-my-pairs-seed3.json"
    assert kept["methods"]["sft"]["settings"]["source"] == kept["data"]["source"] == "my pairs.jsonl"
    assert "load_from" not in kept["data"]
