"""The compile cache's states, problems and repair, in the documented layout; real processes hold real locks."""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from helpers.files import REPOSITORY
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.layout import REMOVED, STATES
from helpers.neuron.compile_cache.locks import network_file_system
from helpers.neuron.compile_cache.sample import (
    COMPILER,
    COMPILER_FLAGS,
    FAILED_LOG,
    GRAPH_LOCK,
    OLDER_COMPILER,
    TWO_DAYS,
    add_compiled,
    add_failed,
    add_graph,
    add_locked,
    graph_name,
    make_older,
    make_sample,
)

LOCK_OWNERS = {
    "flock": "held = open(sys.argv[1], 'r+'); fcntl.flock(held, fcntl.LOCK_EX)",
    "fcntl": "held = open(sys.argv[1], 'r+'); fcntl.lockf(held, fcntl.LOCK_EX)",
    "open": "held = open(sys.argv[1])",
    "named": "pass  # only its command line tells, as that of neuronx-cc does",
}


@pytest.fixture(autouse=True)
def no_neuron_variables(monkeypatch):
    for name in ("NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path) -> CompileCache:
    return CompileCache(make_sample(tmp_path / "cache"), compiler=COMPILER)


def states(cache) -> dict[str, str]:
    return {entry.name: entry.state for entry in cache.entries()}


def kinds(cache, **options) -> list[str]:
    return sorted(problem.kind for problem in cache.problems(**options))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ── what is there ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_has_every_state_and_the_summary_counts_them(cache):
    summary = cache.summary()
    assert {state: summary.states[state] for state in STATES} == {
        "compiled": 9,
        "failed": 1,
        "compiling": 1,
        "abandoned": 1,
        "incomplete": 1,
    }
    assert summary.compilers == {COMPILER: 6, OLDER_COMPILER: 3}
    on_disk = sum(len(content) for name, content in files(cache.path).items() if "MODULE" in name)
    assert sum(summary.bytes.values()) == on_disk
    assert "compiled" in str(summary) and summary.graphs in str(summary)


def test_an_entry_tells_compiler_flags_size_and_age(tmp_path):
    folder = add_compiled(tmp_path, 1, size=5000)
    make_older(folder, 500)
    (entry,) = CompileCache(tmp_path).entries()
    assert (entry.compiler, entry.name, entry.state) == (COMPILER, graph_name(1), "compiled")
    assert entry.flags == COMPILER_FLAGS
    assert entry.size == sum(path.stat().st_size for path in folder.iterdir()) and 500 <= entry.age < 560


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda folder: None, "compiled"),
        (lambda folder: (folder / "model.done").unlink(), "incomplete"),
        (lambda folder: (folder / "model.neff").unlink(), "incomplete"),
        (lambda folder: (folder / "model.neff").write_bytes(b""), "incomplete"),
        (lambda folder: ((folder / "model.neff").unlink(), (folder / "model.log").write_text("no")), "failed"),
        (lambda folder: (folder / "model.log").write_text("warnings"), "compiled"),
        (lambda folder: (folder / GRAPH_LOCK).touch(), "compiled"),
        (lambda folder: (folder / "model.hlo_module.pb").rename(folder / "model.hlo_module.pb.gz"), "compiled"),
        (lambda folder: ((folder / "model.done").unlink(), (folder / GRAPH_LOCK).touch()), "compiling"),
    ],
)
def test_the_state_follows_from_the_files(tmp_path, change, state):
    change(add_compiled(tmp_path, 1))
    assert list(states(CompileCache(tmp_path)).values()) == [state]


def test_damaged_flags_are_no_flags(tmp_path):
    folder = add_compiled(tmp_path, 1)
    for text in ("[1,", '{"a": 1}'):
        (folder / "compile_flags.json").write_text(text)
        assert next(CompileCache(tmp_path).entries()).flags == []


def test_equal_graphs_have_equal_checksums_in_any_order(tmp_path):
    for number in range(5):
        add_compiled(tmp_path / "a", number)
        add_compiled(tmp_path / "b", 4 - number, size=10 + number)
    first, second = CompileCache(tmp_path / "a", COMPILER).summary(), CompileCache(tmp_path / "b", COMPILER).summary()
    assert first.graphs == second.graphs
    add_compiled(tmp_path / "b", 5)
    add_compiled(tmp_path / "a", 5, OLDER_COMPILER)
    assert CompileCache(tmp_path / "a", COMPILER).summary().graphs == first.graphs
    assert CompileCache(tmp_path / "b", COMPILER).summary().graphs != first.graphs


def test_no_cache_yet_is_an_empty_one(tmp_path):
    cache = CompileCache(tmp_path / "nowhere")
    assert cache.summary().compiled == 0 and cache.problems() == [] and cache.repair(dry_run=False) == []
    assert not (tmp_path / "nowhere").exists()


def test_optimum_neurons_registry_is_left_alone(tmp_path):
    registry = tmp_path / COMPILER / "0_REGISTRY" / "0.4.5" / "llama"
    registry.mkdir(parents=True)
    (registry / "a.json").symlink_to("/elsewhere.json")
    cache = CompileCache(tmp_path)
    assert cache.problems() == [] and list(cache.entries()) == []


def test_it_imports_without_torch_boto3_or_neuron():
    code = "import sys; import helpers.neuron.compile_cache as c; c.CompileCache('/tmp/x'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not {"torch", "torch_xla", "boto3", "botocore", "transformers", "IPython"} & set(done.stdout.split())


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """10,000 graphs, one in ten of them failed."""
    root = tmp_path_factory.mktemp("large")
    for number in range(10_000):
        (add_compiled if number % 10 else add_failed)(root, number)
    return root


def least_seconds(work, tries: int = 3) -> float:
    """CPU seconds, so that a busy machine does not count."""
    taken = []
    for _ in range(tries):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def test_ten_thousand_graphs_are_summed_up_and_searched_about_as_fast_as_their_files_are_listed(large):
    cache = CompileCache(large, COMPILER)
    listing = least_seconds(lambda: [path.stat() for path in large.rglob("*")])
    summing, searching = least_seconds(cache.summary), least_seconds(cache.problems)
    print(f"\nlisting {listing:.2f} s, summary {summing:.2f} s, problems {searching:.2f} s")
    assert cache.summary().states == {"compiled": 9000, "failed": 1000} and len(cache.problems()) == 1000
    assert summing < 2 * listing and searching < 3 * listing


def test_memory_stays_flat(large, tmp_path):
    for number in range(500):
        add_compiled(tmp_path, number)

    def peak(root) -> int:
        cache = CompileCache(root, COMPILER)
        cache.summary()
        tracemalloc.start()
        cache.summary()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(large) < peak(tmp_path) + 100_000


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_problem_is_named_with_its_mend(cache):
    found = {problem.kind: problem for problem in cache.problems()}
    assert set(found) == {"stale lock", "failed compile", "incomplete entry", "other compiler", "foreign file"}
    assert "exceeds the 16 GB of a core" in found["failed compile"].says
    assert "2 days old" in found["stale lock"].says
    assert OLDER_COMPILER in found["other compiler"].where and "3 graphs" in found["other compiler"].says
    assert all(str(problem).endswith(f"\n    → {problem.fix}") and problem.fix for problem in found.values())


def test_without_a_current_compiler_no_version_is_another(cache, monkeypatch):
    monkeypatch.setattr("helpers.neuron.compile_cache.fingerprint.current_compiler", lambda: None)
    assert "other compiler" not in kinds(CompileCache(cache.path))


def test_only_the_end_of_a_long_log_is_shown(tmp_path):
    folder = add_failed(tmp_path, 1)
    (folder / "model.log").write_bytes(b"\xff noise\n" * 100_000 + FAILED_LOG.encode())
    (problem,) = CompileCache(tmp_path).problems()
    assert len(problem.says.splitlines()) == 3 and problem.says.endswith("over more cores.")


def test_what_is_young_may_still_be_written(tmp_path):
    (add_compiled(tmp_path, 1) / "model.done").unlink()
    assert kinds(CompileCache(tmp_path)) == []
    assert kinds(CompileCache(tmp_path), older_than=0) == ["incomplete entry"]


def test_a_graph_that_only_waits_to_be_compiled_is_no_problem(tmp_path):
    make_older(add_graph(tmp_path, 1), TWO_DAYS)
    cache = CompileCache(tmp_path)
    assert list(states(cache).values()) == ["incomplete"] and cache.problems() == []


def test_a_location_read_differently_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path))
    (problem,) = CompileCache().problems()
    assert problem.kind == "location" and str(tmp_path) in problem.says and "configure()" in problem.fix


def test_a_link_out_of_the_cache_is_foreign_and_never_followed(tmp_path):
    outside = add_compiled(tmp_path / "outside", 7)
    cache = CompileCache(tmp_path / "cache", COMPILER)
    inside = add_compiled(cache.path, 1)
    (inside / "model.neff").unlink()
    (inside / "model.neff").symlink_to(outside / "model.neff")
    (cache.path / COMPILER / graph_name(7)).symlink_to(outside)
    (cache.path / OLDER_COMPILER).symlink_to(outside.parent)
    assert states(cache) == {graph_name(1): "incomplete"}
    assert kinds(cache) == ["foreign file", "foreign file"]
    before = files(tmp_path / "outside")
    cache.repair(dry_run=False, kinds=["foreign file", "incomplete entry"], older_than=0)
    assert files(tmp_path / "outside") == before and kinds(cache, older_than=0) == []


# ── repair ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_repair_changes_nothing_until_told_to(cache, capsys):
    before = files(cache.path)
    planned = cache.repair()
    assert files(cache.path) == before
    assert sorted(problem.kind for problem in planned) == ["failed compile", "incomplete entry", "stale lock"]
    said = capsys.readouterr().out
    assert said.count("would move") == 3 and "nothing was changed" in said


def test_repair_moves_what_blocks_and_deletes_nothing(cache):
    before, graphs = files(cache.path), cache.summary().graphs
    cache.repair(dry_run=False)
    assert kinds(cache) == ["foreign file", "other compiler"]
    assert sorted(states(cache).values()) == ["compiled"] * 9 + ["compiling", "incomplete"]  # its lock is gone
    assert cache.summary().graphs == graphs
    after = files(cache.path)
    kept = [content for name, content in after.items() if Path(name).name != GRAPH_LOCK]
    was = [content for name, content in before.items() if Path(name).name != GRAPH_LOCK]
    assert sorted(kept) == sorted(was)
    assert any(name.startswith(REMOVED) and name.endswith(GRAPH_LOCK) for name in after)


def test_the_rest_is_moved_if_asked_for(cache):
    cache.repair(dry_run=False, kinds=["other compiler", "foreign file"])
    assert {entry.compiler for entry in cache.entries()} == {COMPILER}
    assert not (cache.path / COMPILER / "notes.txt").exists()
    assert len(list((cache.path / REMOVED).rglob("model.neff"))) == 3
    with pytest.raises(ValueError, match="no problem is called everything: choose from stale lock"):
        cache.repair(kinds=["everything"])


def test_repair_twice_in_one_second_keeps_both(tmp_path):
    cache = CompileCache(tmp_path)
    for _ in range(2):
        add_failed(tmp_path, 1)
        cache.repair(dry_run=False)
    assert len(list((tmp_path / REMOVED).rglob("model.log"))) == 2


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds an old lock in one of the known ways, until it is killed."""
    processes = []

    def start(way: str) -> tuple[CompileCache, subprocess.Popen]:
        folder = add_locked(tmp_path / "cache", 1, age=TWO_DAYS)
        argument = f"work/model.{folder.name}.hlo_module.pb" if way == "named" else str(tmp_path / "lock")
        if way != "named":
            Path(argument).symlink_to(folder / GRAPH_LOCK)  # so that only the lock itself gives it away
        code = f"import fcntl, sys, time\n{LOCK_OWNERS[way]}\nprint('held', flush=True)\ntime.sleep(600)"
        process = subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return CompileCache(tmp_path / "cache"), process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("way", LOCK_OWNERS)
def test_a_live_lock_is_never_touched_however_old(holder, way):
    cache, process = holder(way)
    assert list(states(cache).values()) == ["compiling"]
    assert kinds(cache, older_than=0) == []
    before = files(cache.path)
    assert cache.repair(dry_run=False, older_than=0) == []
    assert files(cache.path) == before
    process.kill()
    process.wait()
    assert list(states(cache).values()) == ["abandoned"]
    assert [problem.kind for problem in cache.repair(dry_run=False)] == ["stale lock"]
    assert not list((cache.path / COMPILER).rglob(GRAPH_LOCK))


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf])
def test_a_lock_that_no_process_table_shows_is_found_by_trying(tmp_path, monkeypatch, lock):
    """As from another container: the holder's files and command line can't be seen, its lock can."""
    path = add_locked(tmp_path, 1, age=TWO_DAYS) / GRAPH_LOCK
    monkeypatch.setattr("psutil.process_iter", lambda *_, **__: iter(()))
    code = "import fcntl, sys, time\nheld = open(sys.argv[1], 'r+')\n"
    code += f"fcntl.{lock.__name__}(held, fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        cache = CompileCache(tmp_path)
        assert list(states(cache).values()) == ["compiling"]
        process.kill()
        process.wait()
    assert list(states(cache).values()) == ["abandoned"]


def test_a_young_lock_without_a_holder_gets_the_benefit_of_the_doubt(tmp_path):
    add_locked(tmp_path, 1, age=600)
    cache = CompileCache(tmp_path)
    (entry,) = cache.entries()
    assert entry.state == "compiling" and "10 min old" in entry.reason
    assert cache.problems() == []
    assert [problem.kind for problem in cache.repair(dry_run=False, older_than=0)] == ["stale lock"]


def test_on_a_network_file_system_age_alone_proves_nothing(tmp_path, monkeypatch):
    add_locked(tmp_path, 1, age=TWO_DAYS)
    monkeypatch.setattr("helpers.neuron.compile_cache.locks.NETWORK", (fstype_of(tmp_path),))
    cache = CompileCache(tmp_path)
    assert list(states(cache).values()) == ["compiling"] and kinds(cache) == ["location"]
    assert kinds(cache, older_than=3600) == ["location", "stale lock"]


def fstype_of(path: Path) -> str:
    mounts = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    return next(mounts[str(parent)] for parent in path.resolve().parents if str(parent) in mounts)


def test_a_compile_that_starts_while_repair_looks_keeps_its_graph(tmp_path, monkeypatch):
    """Between the search and the move a process takes the lock: the move must see that."""
    from helpers.neuron.compile_cache import problems

    folder = add_failed(tmp_path, 1)
    real = problems._removed_folder

    def lock_first(root):
        (folder / GRAPH_LOCK).touch()
        return real(root)

    monkeypatch.setattr(problems, "_removed_folder", lock_first)
    assert CompileCache(tmp_path).repair(dry_run=False) == []
    assert (folder / "model.log").is_file()


def test_a_date_in_the_future_keeps_no_lock_alive(tmp_path):
    add_locked(tmp_path, 1, age=-TWO_DAYS)
    make_older(add_torn(tmp_path, 2), -TWO_DAYS)
    cache = CompileCache(tmp_path)
    assert set(states(cache).values()) == {"abandoned", "incomplete"} and "in the future" not in str(cache.summary())
    assert sorted(problem.kind for problem in cache.repair(dry_run=False)) == ["incomplete entry", "stale lock"]


def add_torn(root: Path, number: int) -> Path:
    folder = add_compiled(root, number)
    (folder / "model.done").unlink()
    return folder


@pytest.mark.parametrize(
    ("device", "fstype", "remote"),
    [
        ("mountpoint-s3", "fuse", True),
        ("s3fs", "fuse.s3fs", True),
        ("bucket", "fuse.geesefs", True),
        ("fs-1.efs.amazonaws.com:/", "nfs4", True),
        ("fuse-overlayfs", "fuse.fuse-overlayfs", False),
        ("/dev/nvme0n1p1", "ext4", False),
    ],
)
def test_amazons_s3_mounts_are_network_file_systems(device, fstype, remote, tmp_path, monkeypatch):
    mount = SimpleNamespace(device=device, fstype=fstype, mountpoint=str(tmp_path))
    monkeypatch.setattr("psutil.disk_partitions", lambda all: [mount])
    assert bool(network_file_system(tmp_path / "cache")) == remote
    assert kinds(CompileCache(tmp_path / "cache")) == (["location"] if remote else [])


# ── a repair that can't rename ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_rename(monkeypatch):
    """As between file systems, or from the layer of an image."""

    def refuse(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))

    monkeypatch.setattr(os, "rename", refuse)


def test_repair_moves_by_copying_where_it_cannot_rename(cache, no_rename):
    before = files(cache.path)
    assert len(cache.repair(dry_run=False)) == 3
    assert kinds(cache) == ["foreign file", "other compiler"]
    after = files(cache.path)
    assert sorted(content for content in after.values() if content) == sorted(c for c in before.values() if c)


def copy_half(source, target, **_):
    Path(target).mkdir()
    (Path(target) / "half").write_bytes(b"x")
    raise OSError(errno.ENOSPC, "No space left on device")


def remove_half(path):
    next(file for file in Path(path).iterdir() if not file.name.endswith(".lock")).unlink()
    raise OSError(errno.EPERM, "Operation not permitted")


def copy_wrongly(source, target, **_):
    Path(target).mkdir()
    for file in Path(source).iterdir():
        (Path(target) / file.name).write_bytes(b"something else")


@pytest.mark.parametrize(
    ("step", "breaks", "says"),
    [
        ("copytree", copy_half, "No space left on device"),
        ("copytree", copy_wrongly, "the copy of .* differs"),
        ("rmtree", remove_half, "Operation not permitted"),
    ],
)
def test_a_repair_that_fails_undoes_what_it_did(tmp_path, monkeypatch, no_rename, step, breaks, says):
    folder = add_failed(tmp_path, 1)
    before, real, calls = files(tmp_path), getattr(shutil, step), []

    def once(*arguments, **options):
        calls.append(arguments)
        return (real if len(calls) > 1 else breaks)(*arguments, **options)

    monkeypatch.setattr(shutil, step, once)
    with pytest.raises(
        OSError, match=rf"{re.escape(folder.name)} can't be moved away \({says}\) and stays as it was: 0 moved"
    ):
        CompileCache(tmp_path).repair(dry_run=False)
    assert files(tmp_path) == before, "no new lock, no copy"


def test_a_log_shows_its_cause_before_its_last_lines(tmp_path):
    folder = add_failed(tmp_path, 1)
    cause = "[ERROR] [NCC_EVRF007] Estimated peak HBM usage exceeds 16 GB"
    (folder / "model.log").write_text("\n".join(["start", cause, *(f"line {n}" for n in range(500))]))
    (problem,) = CompileCache(tmp_path).problems()
    assert problem.says.splitlines() == [cause, "line 497", "line 498", "line 499"]
    assert problem.where.endswith(f"{folder.name}/model.log")
