"""Starting scripts/train.py on NeuronCores and reading what it says, with a program that stands in for torchrun."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from helpers.files import REPOSITORY
from helpers.neuron.process import lines_of
from helpers.neuron.run import TrainingRun, check_cores, recorded_rehearsal, step_records, train_on_trainium

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
    with pytest.raises(RuntimeError, match=r"python ended with 1 .*:(\n.*)*neuronxcc not installed"):
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


# ── what else may stand in the output ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ('....{"step": 2, "loss": 3.0}', [2]),
        ('Loading: 100%|███| 2/2{"step": 2, "loss": 3}', [2]),
        ('{"step": 2, "loss": 3.0}{"step": 3, "loss": 2.0}', [2, 3]),
        ('{"step": 2, "loss": 3.0}2026-11-26 INFO ||NEURON_CACHE||', [2]),
        ('{"step": 2, "lo{"step": 3, "loss": 2.0}', [3]),
        ("{'step': 2, 'loss': 3.0}", []),
        ('{"loss": 1.0}', []),
        ('{"step": "2", "loss": null}', []),
        ("{" * 100_000, []),
        ('{"a":' * 100_000, []),
    ],
)
def test_records_are_found_wherever_they_stand_and_nothing_else_is_one(line, steps):
    assert [record["step"] for record in step_records(line)] == steps


def test_bytes_that_are_no_utf8_are_replaced():
    code = r"import sys; sys.stdout.buffer.write(b'caf\xe9 \xff\n{\"step\": 1, \"loss\": 2.0}\n')"
    lines = list(lines_of([sys.executable, "-c", code], os.environ))
    assert lines == ["caf\ufffd \ufffd", '{"step": 1, "loss": 2.0}']


def test_a_run_without_a_step_says_so(torchrun):
    torchrun("nothing to train")
    assert "0 steps" in str(train_on_trainium("orpo")) and "no step was logged" in str(train_on_trainium("orpo"))


def test_the_cause_is_shown_though_a_long_summary_follows_it(torchrun):
    cause = "2026-Nov-26 06:02:18 ERROR NRT:nrt_allocate_neuron_cores NeuronCore(s) not available"
    torchrun(cause, "RuntimeError: nrt_init failed", *(f"summary {n}" for n in range(30)), code=1)
    with pytest.raises(RuntimeError) as error:
        train_on_trainium("orpo")
    said = str(error.value)
    assert cause in said and "RuntimeError: nrt_init failed" in said and "summary 29" in said


@pytest.mark.parametrize(
    ("environment", "cores", "says"),
    [
        ({"NEURON_RT_NUM_CORES": "1"}, 2, "NEURON_RT_NUM_CORES=1 gives 1: unset it, or ask for cores=1"),
        ({"NEURON_RT_VISIBLE_CORES": "0"}, 2, "NEURON_RT_VISIBLE_CORES=0 gives 1"),
        ({"NEURON_RT_VISIBLE_CORES": "0-3,6,7"}, 2, "gives 6"),
        ({"NEURON_RT_VISIBLE_CORES": "all"}, 2, "names no cores"),
        ({}, 3, "1 NeuronCore or an even number"),
        ({}, 0, "1 NeuronCore or an even number"),
    ],
)
def test_cores_that_disagree_are_refused_before_anything_starts(environment, cores, says, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=says):
        train_on_trainium("orpo", cores=cores)


def test_cores_that_agree_are_taken():
    check_cores(2, {"NEURON_RT_VISIBLE_CORES": "2-3", "NEURON_RT_NUM_CORES": "1"})  # the list wins
    check_cores(2, {"NEURON_RT_NUM_CORES": " 2 "})


FAMILY = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session={session})
print(child.pid, flush=True)
time.sleep(600)
"""


def ended(pid: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("session", [True, False])
def test_a_reader_that_stops_leaves_no_process_behind(session):
    lines = lines_of([sys.executable, "-c", FAMILY.format(session=session)], os.environ)
    child = int(next(lines))
    lines.close()
    assert ended(child)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_a_child_ends_with_a_parent_that_is_killed(tmp_path):
    code = "import os, sys\nfrom helpers.neuron.process import lines_of\n"
    code += "for line in lines_of([sys.executable, '-c', "
    code += repr("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    code += "], os.environ): print(line, flush=True)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    assert ended(child)


@pytest.mark.parametrize("code", [0, 1])
def test_a_disk_that_fills_ends_no_training(torchrun, tmp_path, monkeypatch, code):
    """All that a run says is kept in a file, in case that it fails."""

    def on_full_disk(**_):
        (tmp_path / "said.log").touch()
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "said.log")

    monkeypatch.setattr("helpers.neuron.process.tempfile.mkstemp", on_full_disk)
    torchrun(*(json.dumps(record) for record in LOG), "RuntimeError: the cause", code=code)
    if not code:
        assert len(train_on_trainium("orpo").records) == 12
        return
    with pytest.raises(RuntimeError, match=r"said.log, up to where the disk was full\):(\n.*)*the cause"):
        train_on_trainium("orpo")
