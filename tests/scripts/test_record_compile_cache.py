"""The recording of a cold and a warm start, with a made-up run in place of a rehearsal."""

from helpers.neuron.compile_cache import rehearsal
from helpers.neuron.compile_cache.sample import add_compiled
from helpers.neuron.run import TrainingRun
from scripts import record_compile_cache as record


def test_what_is_recorded_is_what_notebook_06_shows(tmp_path, monkeypatch):
    def train(cache, output, **changes):
        new = not cache or not cache.summary().compiled
        if cache and new:
            add_compiled(cache.path, 1)
        return TrainingRun("orpo", [{"loss": 1.5}], 1, 2.0, "here", int(new))

    for name in ("NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"):
        monkeypatch.setenv(name, "")
    for module in (record, rehearsal):
        monkeypatch.setattr(module, "RECORDED_STARTS", tmp_path / "results" / "compile_cache.json")
    monkeypatch.setattr(record, "rehearsed", train)
    record.main()
    starts = rehearsal.recorded_starts()
    assert [start.run.new_graphs for start in starts.values()] == [1, 0]
    assert starts["warm"].graphs == starts["cold"].graphs and starts["warm"].compiled == 1
    rows = rehearsal.table_of_changes().splitlines()
    assert len(rows) == 2 + len(record.CHANGES) and rows[2] == "| `seed` 42 → 7 | 1 | 1 |"
