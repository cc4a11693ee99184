"""Preparing many pairs is measured on pairs of the said lengths, and the table says what was measured."""

import json
import os
import statistics
import time

import numpy

from benchmarks import data_scale
from helpers.files import REPOSITORY
from helpers.runs import here_and_now


def test_lengths_follow_the_said_distribution_and_the_seed_decides(tmp_path):
    for name in ("one", "two"):
        data_scale.write_pairs(tmp_path / name, 400, seed=1)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    rows = list(map(json.loads, (tmp_path / "one").read_text().splitlines()))
    for side in ("chosen", "rejected"):
        words = statistics.median(len(row[side][1]["content"].split()) for row in rows)
        assert 0.85 < words / data_scale.LENGTHS[side][0] < 1.15


def test_every_step_is_measured_and_tabled(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", os.environ.get("WORKSHOP_CACHE", str(REPOSITORY / ".cache")))  # put back after
    data_scale.write_pairs(tmp_path / "pairs.jsonl", 60)
    found = data_scale.prepare(tmp_path / "pairs.jsonl")
    assert set(found["seconds"]) == {"load", "validate", "tokenize"} and min(found["seconds"].values()) > 0
    assert set(found["peaks"]) == set(found["seconds"]) and found["cpu_seconds"] > 0
    size = here_and_now() | {
        "date": "2026-01-02T03:04:05",
        "rows": 60,
        "bytes": 250_000,
        "first": found,
        "again": found,
    }
    table = data_scale.scale_table({"cores": 2, "sizes": [size]})
    assert "| 60 " in table and "2026-01-02" in table


def test_a_size_that_is_measured_again_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(data_scale, "results_folder", lambda: tmp_path)
    monkeypatch.setattr(data_scale, "measured", lambda rows: {"rows": rows, "bytes": 10 * rows})
    data_scale.main(["--rows", "10", "300"])
    monkeypatch.setattr(data_scale, "measured", lambda rows: {"rows": rows, "bytes": 7 * rows})
    data_scale.main(["--rows", "20", "10"])
    sizes = json.loads((tmp_path / data_scale.RESULT).read_text())["sizes"]
    assert [(size["rows"], size["bytes"]) for size in sizes] == [(10, 70), (20, 140), (300, 3000)]
    assert all(size["date"] and size["machine"] for size in sizes)


def test_a_steps_peak_is_its_own_memory_and_no_mapped_file(tmp_path):
    (tmp_path / "file").write_bytes(bytes(200 * 2**20))

    def touch_a_mapped_file():
        mapped = numpy.memmap(tmp_path / "file", mode="r")
        total = int(mapped[::4096].sum())
        time.sleep(3 * data_scale.SAMPLE)
        return total

    def fill_memory():
        filled = numpy.ones(200 * 2**20, dtype=numpy.uint8)
        time.sleep(3 * data_scale.SAMPLE)
        return int(filled[0])

    steps, before = data_scale.Steps(), data_scale.own_memory()
    assert steps.time("file", touch_a_mapped_file) == 0 and steps.time("memory", fill_memory) == 1
    assert steps.peaks["file"] - before < 20 * 2**20
    assert 190 * 2**20 < steps.peaks["memory"] - before < 230 * 2**20
    assert steps.time("after", data_scale.own_memory) - before < 20 * 2**20
