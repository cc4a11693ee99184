"""The run folder: whole files, the right run, and a stopped stage that resumes only where that is sound."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.files import (
    REPOSITORY,
    append_line,
    read_json,
    read_lines,
    refused,
    replaced_whole,
    write_json,
    write_text,
)
from helpers.runs import folder as runs
from helpers.runs import machine
from helpers.runs.folder import Run, new_run, open_run
from helpers.runs.lock import Held, Lock
from helpers.runs.stage import Stage
from helpers.runs.told import NotWritten, writing
from helpers.training.profiles import PROFILES

SMOKE = PROFILES["smoke"]


@pytest.fixture(autouse=True)
def own_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("WORKSHOP_RUN", raising=False)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")  # fails while the file is being written
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_file_that_the_system_refuses_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        write_json(tmp_path / "gone" / "results.json", {})
    assert "results.json" in error.value.filename


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError(errno.ENOSPC, "no"), "free some, or name another folder"),
        (OSError(errno.EMFILE, "no"), "ulimit -n 1024"),
        (OSError(errno.ENAMETOOLONG, "no"), "the path is too long"),
        (OSError(errno.EISDIR, "no"), "rename or delete that folder"),
        (OSError(errno.EACCES, "no"), "see that it is there and this user may write to it"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "free some"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 320 vs 214"), "free some"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_its_fix(error, fix):
    said = refused(error, Path("runs"), "name another folder")
    assert said.startswith("runs: ") and fix in said and "\n" not in said
    if isinstance(error, OSError):
        error.filename = "runs/state.json"
        assert refused(error, Path("runs"), "").startswith("runs/state.json: no: ")


def test_what_the_system_did_not_refuse_is_another_error():
    assert refused(KeyError("x"), Path("runs"), "") is refused(OSError("of a library"), Path("runs"), "") is None


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path):
    folder = tmp_path / "deep" / "model"
    with pytest.raises(OSError, match="full"), replaced_whole(folder) as making:
        (making / "weights").write_text("half")
        raise OSError("full")
    assert not folder.exists()
    for text in ("first", "second"):
        with replaced_whole(folder) as making:
            (making / text).write_text(text)
            (making / "part").mkdir()
        assert sorted(path.name for path in folder.iterdir()) == sorted([text, "part"])
    with pytest.raises(OSError, match="full"), replaced_whole(folder) as making:
        raise OSError("full")
    assert (folder / "second").read_text() == "second" and not making.exists()


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "results.json"
    code = (
        "import sys, itertools\nfrom pathlib import Path\nfrom helpers.files import write_json\n"
        "for n in itertools.count(): write_json(Path(sys.argv[1]), {'n': n, 'filler': 'x' * 200_000})"
    )
    for delay in (0.0, 0.005, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        deadline = time.monotonic() + 60
        while not path.is_file():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(read_json(path)["filler"]) == 200_000
        path.unlink()


@settings(deadline=None)
@given(records=st.lists(st.dictionaries(st.text(), st.integers()), max_size=6), data=st.data())
def test_json_lines_survive_a_cut_at_any_byte(tmp_path_factory, records, data):
    path = tmp_path_factory.mktemp("lines") / "log.jsonl"
    for record in records:
        append_line(path, record)
    content = path.read_bytes() if records else b""
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    survived = read_lines(path)
    assert survived == records[: len(survived)]
    append_line(path, {"after": 1})
    assert read_lines(path) == [*survived, {"after": 1}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log.jsonl, line 2 is no JSON .* fix or delete"):
        read_lines(path)


def bytes_read() -> int:
    """What this process has read so far, as the kernel counts it."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="the kernel counts no bytes here")
@pytest.mark.parametrize("torn", ["", '{"step": 1'], ids=["whole", "torn"])
def test_a_log_line_costs_the_same_whatever_the_length_of_the_log(tmp_path, torn):
    def cost(lines: int) -> int:
        path = tmp_path / f"{lines}.jsonl"
        path.write_text('{"step": 1, "loss": 0.5}\n' * lines + torn)
        before = bytes_read()
        append_line(path, {"last": True})
        read = bytes_read() - before
        assert read_lines(path)[-1] == {"last": True} and len(read_lines(path)) == lines + 1
        return read

    few, many = cost(1_000), cost(100_000)
    assert many <= few + 64 and many < 10_000, "of 2.5 million bytes"


# ── which run ───────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_of_one_second_get_their_own_folders_and_latest_is_the_newest():
    first, second = new_run(SMOKE), new_run(SMOKE)
    assert first.path != second.path
    assert (runs.runs_folder() / "latest").resolve() == second.path.resolve()


def test_to_name_a_run_or_a_stage_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_RUN", str(tmp_path / "mine"))
    for name in ("torch", "torch_xla", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    run = open_run(SMOKE)
    stage = run.stage("sft")
    assert stage.read_log() == [] and not stage.finished and run.results["methods"] == {}
    assert not run.path.exists(), "only a write makes the folder"
    assert not {"torch", "torch_xla", "transformers"} & set(sys.modules), "nothing is imported, measured or hidden"


def test_the_machine_is_measured_once_and_when_that_is_asked_for(tmp_path, monkeypatch):
    run, measured = Run(tmp_path / "run", SMOKE), []
    monkeypatch.setattr(runs, "here_and_now", lambda: measured.append(1) or {"machine": {"gflops": 1.0}, "date": "d"})
    run.write_results(methods={"base": {"n": 1}})
    assert "machine" not in run.results and not measured
    assert run.measured_machine() == run.measured_machine() == {"gflops": 1.0} and len(measured) == 1
    assert run.results["date"] == "d"


def test_opening_makes_nothing_and_moves_nothing():
    made = new_run(SMOKE)
    for profile in (SMOKE, replace(SMOKE, seed=7), replace(SMOKE, name="laptop")):
        open_run(profile)
    assert {path.name for path in runs.runs_folder().iterdir()} == {"latest", made.path.name}
    assert (runs.runs_folder() / "latest").resolve() == made.path.resolve()


def test_the_first_write_makes_the_run_and_moves_latest_to_it():
    new_run(SMOKE)
    run = open_run(replace(SMOKE, seed=7))
    stage = run.stage("sft")  # made before another run takes the name
    run.path.mkdir(exist_ok=True)
    stage.write_file("heldout.json", {})
    assert run.path.name.endswith("-2") and stage.path.parent == run.path
    assert (runs.runs_folder() / "latest").resolve() == run.path.resolve()


def test_a_run_that_make_run_finished_is_read(capsys):
    run = new_run(SMOKE)
    assert open_run(SMOKE).path == run.path and "finished" not in capsys.readouterr().out
    write_json(run.path / "state.json", {"status": "finished"})
    assert open_run(SMOKE).path == run.path
    assert f"{run.path.name} is finished: what it holds is read, not made again" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"name": "laptop"}, {"seed": 7}, {"model": "other"}])
def test_another_profile_seed_or_model_gets_its_own_run_and_the_first_is_found_again(change):
    run = new_run(SMOKE)
    run.write_results(model={"name": SMOKE.model})
    other = open_run(replace(SMOKE, **change))
    other.write_results(model={"name": other.profile.model})
    assert other.path != run.path and (runs.runs_folder() / "latest").resolve() == other.path.resolve()
    assert open_run(SMOKE).path == run.path and open_run(replace(SMOKE, **change)).path == other.path


def test_other_pairs_get_their_own_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text("")
    run = new_run(SMOKE)
    assert open_run(SMOKE, "mine.jsonl").path == run.path, "no pairs are noted in it yet"
    run.write_results(data={"load_from": "aws-api"})
    mine = open_run(SMOKE, "mine.jsonl")
    mine.write_results(data={"load_from": str(tmp_path / "mine.jsonl")})
    assert mine.path != run.path and open_run(SMOKE).path == mine.path, "the newest, for whoever names no pairs"
    assert open_run(SMOKE, "aws-api").path == run.path and open_run(SMOKE, "mine.jsonl").path == mine.path


def test_a_run_at_work_is_left_alone_and_a_killed_one_taken_up():
    run = new_run(SMOKE)
    with holding(run.path / ".locks" / "run") as holder:
        other = open_run(SMOKE)
        other.write_results()
        assert other.path != run.path
    with holding(other.path / ".locks" / "run") as holder:
        holder.kill()
        holder.wait()
        assert open_run(SMOKE).path == other.path


@pytest.mark.parametrize("content", ["", "[]", '{"profile": '])
@pytest.mark.parametrize("name", ["results.json", "state.json"])
def test_a_damaged_run_is_named_and_left_behind(name, content, capsys):
    run = new_run(SMOKE)
    (run.path / name).write_text(content)
    assert open_run(SMOKE).is_new
    said = capsys.readouterr().out
    assert f"{run.path.name}/{name}" in said and "restore or delete the file; this run is passed over" in said


def test_what_stays_as_it_was_is_not_written_again(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(data={"n": 1})
    written = (run.path / "results.json").stat().st_mtime_ns
    run.write_results(data={"n": 1})
    assert (run.path / "results.json").stat().st_mtime_ns == written


def test_without_symbolic_links_the_newest_run_is_the_latest(monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    new_run(SMOKE)
    run = new_run(SMOKE)
    assert f"no symbolic links (Operation not permitted): see {run.path.name}" in capsys.readouterr().out
    assert open_run(SMOKE).path.name == run.path.name


def test_a_folder_in_place_of_latest_is_named_and_nothing_is_made(tmp_path):
    """A copy of the runs that followed the link leaves one."""
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    with pytest.raises(NotWritten) as error:
        new_run(SMOKE)
    assert error.value.filename.endswith("runs/latest") and os.listdir(tmp_path / "runs") == ["latest"]


@pytest.mark.parametrize("content", ["[]", '{"methods": []}', '{"machine": "a laptop"}', '{"data": 3}'])
def test_results_of_another_shape_are_named(tmp_path, content):
    run = Run(tmp_path / "run", SMOKE)
    run.path.mkdir()
    (run.path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"run/results.json: \w+ is no JSON object: restore or delete the file"):
        run.write_results(run={})


def test_a_machine_that_an_older_version_noted_is_measured_again(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(machine={"cpu": "old"})
    assert run.measured_machine()["gflops"] > 0


def test_a_named_run_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_RUN", str(tmp_path / "mine"))
    assert open_run(SMOKE).path == tmp_path / "mine"


# ── results ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_results_are_merged_and_a_missing_stage_names_its_notebook(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    run.write_results(methods={"base": {"n": 1}})
    run.write_results(methods={"sft": {"n": 2}})
    again = Run(tmp_path / "run", SMOKE)
    assert again.results["methods"] == {"base": {"n": 1}, "sft": {"n": 2}}
    assert again.require("sft") == {"n": 2}
    with pytest.raises(FileNotFoundError, match="run notebook 04 first"):
        again.require("orpo")


def test_two_processes_that_write_results_lose_nothing(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom helpers.runs.folder import Run\n"
        "from helpers.training.profiles import PROFILES\nrun = Run(Path(sys.argv[1]), PROFILES['smoke'])\n"
        "for n in range(60): run.write_results(methods={sys.argv[2] + str(n): {'n': n}})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "run", name]) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(Run(tmp_path / "run", SMOKE).results["methods"]) == 120


def test_threads_that_write_results_lose_nothing(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: run.write_results(methods={str(n): {}}), range(40)))
    assert len(run.results["methods"]) == 40


def test_a_stages_result_is_stored_once(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    for name in ("sft", "techniques/sft"):
        run.stage(name).start({})
        run.stage(name).finish({"n": 256, "name": name})
        assert run.stage(name).finished and run.stage(name).result["name"] == name
    assert run.results["methods"]["sft"]["name"] == "sft"
    assert run.results["techniques"]["stages"]["sft"]["name"] == "techniques/sft"
    holds_it = [path.name for path in run.path.rglob("*.json") if "256" in path.read_text()]
    assert holds_it == ["results.json"]


def test_a_comparison_is_dropped_once_a_result_that_it_compares_changes(tmp_path):
    run = Run(tmp_path / "run", SMOKE)
    run.stage("sft").finish({"n": 1})
    run.write_results(orpo_minus_sft={"gain": 1}, generations=["said"])
    run.stage("techniques/sft").finish({"n": 2})
    run.stage("sft").finish({"n": 1})
    assert run.results["orpo_minus_sft"] == {"gain": 1}, "nothing that it compares has changed"
    run.stage("sft").start({})
    assert not {"orpo_minus_sft", "generations", "sft"} & {*run.results, *run.results["methods"]}


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────

HOLD = """
import sys, time
from pathlib import Path
from helpers.runs.lock import Lock
Lock(Path(sys.argv[1])).take()
print("held", flush=True)
time.sleep(600)"""


@contextmanager
def holding(path):
    """Another process that holds a lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_names_its_owner_and_is_free_after_a_kill(tmp_path):
    lock = Lock(tmp_path / "results.json")
    assert lock.holder() is None
    with holding(lock.path) as other:
        assert f"process {other.pid} on {socket.gethostname()}, since 2" in lock.holder()
        with pytest.raises(Held, match=f"results is held by process {other.pid} on"):
            lock.take(wait=0.05)
        other.kill()
        other.wait()
        lock.take()
    assert f"process {os.getpid()} on" in lock.holder()
    lock.take()
    lock.release()
    assert lock.holder() is None


def test_a_stage_is_trained_by_one_process_at_a_time(tmp_path):
    stage = Run(tmp_path / "run", SMOKE).stage("sft")
    with holding(tmp_path / "run" / ".locks" / "sft") as other:
        with pytest.raises(RuntimeError, match=f"run: another process trains this stage .*process {other.pid} on .*"):
            stage.start({})
        assert not stage.path.exists()
    assert stage.start({}) == 0 and stage.start({}) == 0, "a cell may be run twice"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="has no file locks: set WORKSHOP_RUNS to a local folder"):
        Run(tmp_path / "run", SMOKE).write_results()


# ── a stage that was stopped ────────────────────────────────────────────────────────────────────────────────


def stage_at(path) -> Stage:
    return Run(path.parent, SMOKE).stage(path.name)


def stopped_stage(path, settings, steps=(2, 4)) -> Stage:
    """A stage killed after step 5: two checkpoints, five log records, measurements at 0, 2 and 4."""
    stage = stage_at(path)
    stage.start(settings)
    for step in steps:
        folder = stage.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        write_json(folder / "trainer_state.json", {"global_step": step})
    for step in range(1, 6):
        stage.log({"step": step, "loss": 1 / step})
    for step in (0, 2, 4):
        stage.write_monitor({"step": step})
    return stage


def test_the_same_settings_resume_from_the_last_whole_checkpoint(tmp_path, capsys):
    stage = stopped_stage(tmp_path / "sft", {"steps": 8, "name": ("a", "b")})
    torn = stage.checkpoints / "checkpoint-6"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    assert stage_at(tmp_path / "sft").start({"steps": 8, "name": ("a", "b")}) == 4
    said = capsys.readouterr().out
    assert "removing checkpoint-6, which was cut off" in said
    assert "sft: resuming from step 4 of a stopped run" in said
    assert stage.last_checkpoint().endswith("checkpoint-4")
    assert [record["step"] for record in stage.read_log()] == [1, 2, 3, 4]
    assert [record["step"] for record in stage.read_monitor()] == [0, 2, 4]


def test_a_stage_whose_model_was_saved_before_it_was_measured_goes_on(tmp_path):
    stage = stopped_stage(tmp_path / "sft", {"steps": 8})
    stage.model_path.mkdir()
    assert stage.start({"steps": 8}) == 4 and stage.last_checkpoint().endswith("checkpoint-4")


def test_checkpoints_after_the_step_that_is_gone_on_from_are_dropped(tmp_path):
    stage = stopped_stage(tmp_path / "sft", {"steps": 8})
    stage.go_on_from(2)
    assert [path.name for path in stage.checkpoints.iterdir()] == ["checkpoint-2"]


def test_other_settings_start_over_and_are_named(tmp_path, capsys):
    stopped_stage(tmp_path / "sft", {"steps": 8, "beta": 1.0})
    stage = stage_at(tmp_path / "sft")
    assert stage.start({"steps": 8, "beta": 2.0}) == 0
    assert "starting from the base model: the stopped run had other settings (beta)" in capsys.readouterr().out
    assert stage.last_checkpoint() is None and stage.read_log() == []


def test_a_finished_stage_starts_again_and_keeps_no_checkpoints(tmp_path, capsys):
    stage = stopped_stage(tmp_path / "sft", {"steps": 8})
    stage.finish({"n": 1})
    assert stage.finished and stage.result == {"n": 1} and not stage.checkpoints.exists()
    assert stage.start({"steps": 8}) == 0
    assert "starting again: it had finished before" in capsys.readouterr().out
    assert not stage.finished


def test_without_any_checkpoint_it_starts_from_the_base(tmp_path, capsys):
    stopped_stage(tmp_path / "sft", {"steps": 8}, steps=())
    assert stage_at(tmp_path / "sft").start({"steps": 8}) == 0
    assert "sft: starting from the base model" in capsys.readouterr().out


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────


def test_machine_info_names_the_machine_but_not_its_user():
    info = machine.machine_info()
    assert info["cores"] >= 1 and info["memory"] == psutil.virtual_memory().total and info["gflops"] > 0
    assert info["bf16_gflops"] > 0
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    written = json.dumps(info)
    assert os.uname().nodename not in written and os.path.expanduser("~") not in written


def test_a_format_that_is_emulated_is_measured_on_small_products(monkeypatch):
    import torch

    sizes, ones = [], torch.ones
    monkeypatch.setattr(machine, "_seconds_of_product", lambda size, dtype, device: 0.05)
    monkeypatch.setattr(torch, "ones", lambda *size, **how: sizes.append(size) or ones(*size, **how))
    assert machine.matmul_gflops(0.01) > 0 and sizes == [(256, 256)], "a product of 1024 rows would take three seconds"
    assert machine.matmul_gflops(3.3) > 0 and sizes[1:] == [(1024, 1024)]


def test_a_machine_is_told_in_gibibytes_and_words():
    told = machine.machine_report(machine.machine_info() | {"memory": 16 * 2**30, "accelerator": "none"})
    assert "16.0 GiB" in told and "no accelerator" in told and "{" not in told


def test_versions_are_those_installed():
    import torch
    import transformers

    found = machine.versions()
    assert found["transformers"] == transformers.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_peak_memory_never_falls_and_counts_bytes():
    before = machine.peak_memory_bytes()
    block = bytearray(300 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert machine.peak_memory_bytes() >= max(before, 300 * 2**20)
    del block
    assert machine.peak_memory_bytes() >= 300 * 2**20


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3600, "60:00")])
def test_clock(seconds, text):
    assert machine.clock(seconds) == text


def test_a_run_in_another_precision_is_not_resumed(tmp_path, monkeypatch, capsys):
    from helpers.training.recipe import stage_settings

    run = Run(tmp_path / "run", PROFILES["smoke"])
    used = []
    for precision in ("bf16", "float32"):
        monkeypatch.setenv("WORKSHOP_PRECISION", precision)
        used.append(stage_settings(run.profile, run, "sft"))
    stage = run.stage("sft")
    stage.start(used[0])
    checkpoint = stage.checkpoints / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / "trainer_state.json", {"global_step": 2})
    assert stage.start(used[1]) == 0
    assert "the stopped run had other settings (bf16)" in capsys.readouterr().out


# ── where nothing may be written ────────────────────────────────────────────────────────────────────────────

WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from helpers.runs import open_run")
shell.run_cell("from helpers.training import get_profile")
shell.run_cell("run = open_run(get_profile('smoke'))")
print("── cell", flush=True)
shell.run_cell("run.write_results(machine={})")
shell.run_cell("from helpers.training.packaged_model import packaged_model")
print("── cell", flush=True)
shell.run_cell("packaged_model()")
"""


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everything")
def test_the_first_write_in_a_read_only_clone_is_one_line_in_a_notebook(tmp_path):
    """The cells of a notebook in a real process, whose user may read the folder of runs and that of models only."""
    (tmp_path / "clone").mkdir(mode=0o555)
    places = {"WORKSHOP_RUNS": f"{tmp_path}/clone/runs", "WORKSHOP_CACHE": f"{tmp_path}/clone/.cache"}
    environment = os.environ | places | {"IPYTHONDIR": str(tmp_path / "ipython"), "NO_COLOR": "1"}
    command = [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", CELLS]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    _, wrote, prepared = done.stdout.split("── cell\n")
    runs, cache = places.values()
    fix = "see that it is there and this user may write to it, or set"
    assert wrote.strip() == f"{runs}: Permission denied: {fix} WORKSHOP_RUNS to a folder elsewhere"
    line = prepared.strip().splitlines()[-1]
    assert line == f"{cache}: Permission denied: {fix} WORKSHOP_CACHE to a folder elsewhere"
    assert len(prepared.strip().splitlines()) == 2, "what is being prepared, and why not"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_what_a_disk_refuses_keeps_its_number_and_what_was_said_in_full_stays_so(tmp_path, number):
    with pytest.raises(NotWritten) as told, writing(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "results.json"))
    assert (told.value.errno, told.value.filename) == (number, str(tmp_path / "results.json"))
    assert str(told.value).startswith(f"{tmp_path / 'results.json'}: {os.strerror(number)}: ")
    assert "set WORKSHOP_RUNS" in str(told.value) and told.value._render_traceback_() == [str(told.value)]
    assert refused(told.value, tmp_path, "set WORKSHOP_RUNS to a folder elsewhere") == str(told.value)
    with pytest.raises(NotWritten, match=r"^free some of it$"), writing(tmp_path):
        raise OSError(number, "free some of it")
    with pytest.raises(ConnectionError, match=r"^go online$"), writing(tmp_path):
        raise ConnectionError("go online")
