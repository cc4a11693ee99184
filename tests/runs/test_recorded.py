"""Recorded runs: only finished ones, and a table that says what the files say."""

import json

import pytest

from helpers.evaluation.tables import comparison_table, difference_table, runs_table
from helpers.files import write_json
from helpers.runs import recorded as results
from scripts import record_results

METHOD = {
    "n": 4,
    "chosen_logp": -2.0,
    "rejected_logp": -3.0,
    "preference_accuracy": 0.75,
    "preference_accuracy_ci95": [0.5, 1.0],
    "answers_n": 4,
    "answers_right": 0.25,
    "answers_right_ci95": [0.1, 0.5],
    "sampled_answers_right": 0.2,
    "sampled_answers_right_ci95": [0.0, 0.4],
    "facts_hold": 1.0,
    "facts_hold_ci95": [0.9, 1.0],
    "chrf": 30.0,
    "chrf_ci95": [20.0, 40.0],
    "chrf_n": 4,
    "train_seconds": 61.0,
    "layout": "rows",
    "precision": "float32",
}


def a_run(folder, seed: int, gain: float, status="finished"):
    orpo = METHOD | {"preference_accuracy": 0.75 + gain, "rejected_logp": -3.5}
    shares = ("preference_accuracy", "answers_right", "sampled_answers_right", "facts_hold")
    difference = dict.fromkeys(shares, gain) | {f"{name}_ci95": [0.01, 0.2] for name in shares}
    folder.mkdir()
    machine = {"cpu": "A CPU", "cores": 2, "accelerator": "none", "python": "3.11.7", "gflops": 80 + seed}
    write_json(
        folder / "results.json",
        {
            "profile": "laptop",
            "seed": seed,
            "date": "2026-01-02T03:04:05+00:00",
            "machine": machine | {"bf16_gflops": 200.4},
            "model": {"name": "m", "from": "packaged: M from w==1, dequantised"},
            "methods": {"base": METHOD | {"train_seconds": None}, "sft": METHOD, "orpo": orpo},
            "orpo_minus_sft": difference,
            "run": {"seconds": 600, "peak_memory_bytes": 2**31},
            "generations": [{"prompt": str(i)} for i in range(9)],
        },
    )
    write_json(folder / "state.json", {"status": status, "done": {"00_a": {"seconds": 1.26}}})
    for method in ("sft", "orpo"):
        (folder / method).mkdir()
        (folder / method / "monitor.jsonl").write_text('{"step": 0}\n')
        (folder / method / "log.jsonl").write_text('{"step": 1, "loss": 2.5, "grad_norm": 1}\n{"train_loss": 2}\n')
    return folder


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    return tmp_path


def test_record_and_read_back(repository):
    for seed, gain in ((1, 0.20), (0, 0.10)):
        record_results.record(a_run(repository / f"run{seed}", seed, gain))
    runs = results.recorded_runs("laptop")
    assert [run["seed"] for run in runs] == [0, 1]
    assert runs[0]["monitor"] == {"sft": [{"step": 0}], "orpo": [{"step": 0}]}
    assert runs[0]["losses"]["orpo"] == [{"step": 1, "loss": 2.5}]
    assert runs[0]["notebook_seconds"] == {"00_a": 1.3} and len(runs[0]["generations"]) == 5
    table = runs_table(runs)
    assert "accepted answers: +15.0 points greedy, +15.0 points sampled, over 2 seeds" in table
    assert "`make run` took 10:00, 10:00" in table and "peak memory 2.0 GiB" in table
    assert table.count("**+20.0 (+1.0 to +20.0)**") == 4
    assert "80, 81 GFLOP a second in float32, 200, 200 in bf16" in table
    assert "Base model: packaged: M from w==1." in table
    assert "seeds 0, 1 · A CPU, 2 cores" in table and "2026-01-02" in table
    rows = [line for line in table.splitlines() if line.startswith("| 0 |") or line.startswith("| 1 |")]
    assert len(rows) == 8 and len({row.count("|") for row in rows}) == 1


def test_what_is_read_of_a_record_says_where_and_when_it_was_recorded(repository):
    record_results.record(a_run(repository / "run", 0, 0.1))
    (run,) = results.recorded_runs("laptop")
    label = "recorded on A CPU, 2 cores, no accelerator, 2026-01-02"
    assert comparison_table(run["methods"]).endswith(f"|\n\n*{label}*")
    assert difference_table(run["orpo_minus_sft"]).endswith(f"|\n\n*{label}*")
    assert results.recorded_label(*(row["prompt"] for row in run["generations"])) == label
    assert results.recorded_label("a text of one's own", run["generations"][0]["prompt"]) == ""
    assert results.recorded_label() == ""
    live = dict(run["methods"]) | {"orpo": dict(run["methods"]["orpo"])}
    assert "recorded" not in comparison_table(live), "a column that was measured just now"
    assert json.dumps(run) == json.dumps(json.loads(json.dumps(run)))


def test_an_unfinished_run_is_refused_and_nothing_recorded_says_how(repository):
    with pytest.raises(ValueError, match="the run is stopped; finish it with make run"):
        record_results.record(a_run(repository / "run", 0, 0.1, status="stopped"))
    assert not (repository / "docs").exists()
    with pytest.raises(FileNotFoundError, match="no recorded run of laptop: make run, then"):
        results.recorded_runs("laptop")


def test_what_is_recorded_is_json_that_others_can_read(repository):
    path = record_results.record(a_run(repository / "run", 3, 0.1))
    assert path.name == "laptop-seed3.json" and json.loads(path.read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("state.json", "", "no JSON"), ("state.json", "[]", "no JSON object"), ("results.json", "{}", "has no profile")],
)
def test_a_run_whose_files_are_damaged_or_older_is_named(repository, name, content, says):
    run = a_run(repository / "run", 0, 0.1)
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=says):
        record_results.record(run)
