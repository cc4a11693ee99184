"""Starting scripts/train.py on NeuronCores and reading what it says, with a program that stands in for torchrun."""

import json
import sys

import pytest

from helpers.neuron.run import TrainingRun, recorded_rehearsal, train_on_trainium

LOG = [{"step": step, "loss": 3.0 - step / 10, "graphs": min(4 + step, 6)} for step in range(1, 13)]


@pytest.fixture
def torchrun(tmp_path, monkeypatch):
    """Makes the interpreter that starts torchrun a program that prints its arguments, then these lines, and ends."""

    def make(*lines: str, code: int = 0):
        program = tmp_path / "python"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nprint('started with', *sys.argv[1:])\n"
            f"print({chr(10).join(lines)!r})\nprint('a warning', file=sys.stderr)\nsys.exit({code})\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return make


def test_what_a_run_on_neuron_cores_says_is_read(torchrun, capsys):
    records = [json.dumps(record) for record in LOG]
    compiled = "graph 6 compiled (3.0 s); 0 reused"
    torchrun("Backend neuron: 2 Neuron devices", records[0], compiled, *records[1:], "XLA compiled 7 graphs", "Trained")
    heard = []
    run = train_on_trainium("orpo", cores=4, listen=heard.append, max_steps=12, bf16=True)
    assert next(line for line in heard if line.startswith("started")) == (
        "started with -m torch.distributed.run --nproc_per_node=4 "
        "scripts/train.py --method orpo --max_steps 12 --bf16 True"
    )
    assert "a warning" in heard, "what goes to stderr is heard, too"
    assert (run.method, run.records, run.graphs, run.new_graphs) == ("orpo", LOG, 7, None)
    assert str(run).startswith("4 NeuronCores: orpo, 12 steps in 0:0") and "loss 2.900 → 1.800" in str(run)
    assert run.told_graphs() == "7 graphs in 12 steps; after step 1, 2, 3, 4, 6, 9, 12: 5, 6, 6, 6, 6, 6, 6"
    said = capsys.readouterr().out
    assert "orpo: step 12, loss 1.800" in said and "graph 6 compiled (3.0 s)" in said


def test_without_its_last_line_a_run_has_the_graphs_of_its_last_step(torchrun):
    torchrun(*(json.dumps(record) for record in LOG[:2]))
    run = train_on_trainium("sft")
    assert run.graphs == 6 and run.told_graphs() == "6 graphs in 2 steps; after step 1, 2: 5, 6"


def test_new_graphs_are_read_where_a_cache_tells_them(torchrun):
    torchrun(json.dumps(LOG[0]), "XLA compiled 7 graphs", "XLA compiled 7 graphs, 3 of them new")
    run = train_on_trainium("orpo")
    assert (run.graphs, run.new_graphs) == (7, 3) and "7 graphs compiled, 3 of them new" in str(run)


def test_a_run_that_fails_shows_its_last_lines(torchrun):
    torchrun("train.py: Trainium: neuronxcc not installed", code=1)
    with pytest.raises(RuntimeError, match=r"python ended with 1:(\n.*)*neuronxcc not installed"):
        train_on_trainium("orpo")


def test_graphs_that_nobody_counted_are_told_as_that():
    uncounted = [{"step": record["step"], "loss": record["loss"]} for record in LOG]
    told = TrainingRun("orpo", uncounted, None, 1.0, "somewhere").told_graphs()
    assert told.startswith("graphs were not counted in 12 steps; not told by step") and "None" not in told


def test_a_recorded_rehearsal_tells_its_graphs_by_step_or_that_it_does_not():
    for run in recorded_rehearsal().values():
        by_step = all("graphs" in record for record in run.records)
        assert run.told_graphs().startswith(f"{run.graphs} graphs in {len(run.records)} steps; ")
        assert ("after step 1, 2, 3, 4, " in run.told_graphs()) == by_step
