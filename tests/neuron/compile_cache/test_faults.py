"""Push and pull when things go wrong, each with real processes: killed, crowded, refused, out of room."""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.sample import COMPILER, add_compiled, add_locked, graph_name
from helpers.store import TransferError
from tests.neuron.compile_cache import transfers
from tests.neuron.compile_cache.s3_server import Server
from tests.neuron.compile_cache.transfers import contents, in_bucket, in_folder, stored

KILLS = {"folder": 100, "s3": 20}
GRAPHS = 12
PROCESSES = multiprocessing.get_context("forkserver")  # a process of its own for each trial, with its imports done
PROCESSES.set_forkserver_preload(["tests.neuron.compile_cache.transfers", "tqdm.auto", "boto3", "botocore.client"])


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch):
    """(kind, url, {key: bytes} there now, environment for processes)."""
    if request.param == "folder":
        shared = tmp_path / "shared"
        return "folder", str(shared), lambda: in_folder(shared), {}
    return bucket_place(request.getfixturevalue("s3"), monkeypatch)


def bucket_place(server: Server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    client, bucket, known = server.client(), server.bucket(f"b{uuid.uuid4().hex}"), {}
    return "s3", f"s3://{bucket}/x", lambda: in_bucket(client, bucket, "x/", known), server.environment


def make_cache(root: Path, numbers=range(GRAPHS), size: int = 60_000) -> CompileCache:
    for number in numbers:
        add_compiled(root, number, size=size + number)
    return CompileCache(root, COMPILER)


def in_process(work, cache: CompileCache, url: str, environment: dict) -> multiprocessing.Process:
    process = PROCESSES.Process(target=work, args=(str(cache.path), url, environment))
    process.start()
    return process


def join(*processes) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def kill_again_and_again(start, check, begin_anew, kills: int) -> None:
    """Kill what `start` starts, so many times, at random moments of its life; `check` returns how many graphs are
    there after each. The span of moments follows how long a life lasts here, until some kills came in the middle."""
    span, killed, partly, lives, chance = 0.5, 0, 0, 0, random.Random(0)
    begin_anew()
    while killed < kills or not partly:
        lives += 1
        assert lives < 10 * kills, "they can't be killed in the middle"
        process = start()
        process.join(chance.uniform(0, span))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        whole = check()
        partly += 0 < whole < GRAPHS
        span *= 0.8 if process.exitcode == 0 else 1.0 if whole else 1.2
        if whole == GRAPHS or chance.random() < 0.2:
            begin_anew()
    print(f"\n{killed} kills in {lives} lives of up to {span:.2f} s; {partly} times only a part was there")


# ── killed ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_killed_pull_leaves_no_graph_that_looks_finished(place, tmp_path):
    kind, url, _, environment = place
    source = make_cache(tmp_path / "source")
    source.push(url)
    truth, rounds = contents(source), []

    def begin_anew() -> None:
        rounds.append(CompileCache(tmp_path / f"target-{len(rounds)}", COMPILER))

    def check() -> int:
        found = contents(rounds[-1])
        assert found.items() <= truth.items()
        return len(found)

    kill_again_and_again(
        lambda: in_process(transfers.pull, rounds[-1], url, environment), check, begin_anew, KILLS[kind]
    )
    join(in_process(transfers.pull, rounds[-1], url, environment))
    assert contents(rounds[-1]) == truth


@pytest.mark.slow
def test_a_killed_push_leaves_no_graph_that_looks_finished(place, tmp_path):
    kind, url, objects, environment = place
    source = make_cache(tmp_path / "source")
    truth, rounds = contents(source), []

    def begin_anew() -> None:
        rounds.append(f"{url}/{len(rounds)}")

    def there() -> dict[str, list]:
        prefix = f"{len(rounds) - 1}/"
        return stored({key.removeprefix(prefix): found for key, found in objects().items() if key.startswith(prefix)})

    def check() -> int:
        found = there()
        assert all(versions == [truth[graph]] for graph, versions in found.items())
        return len(found)

    kill_again_and_again(
        lambda: in_process(transfers.push, source, rounds[-1], environment), check, begin_anew, KILLS[kind]
    )
    join(in_process(transfers.push, source, rounds[-1], environment))
    assert there() == {graph: [files] for graph, files in truth.items()}


# ── crowded ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_pushers_and_a_puller_at_once_lose_nothing(place, tmp_path):
    """The hosts have compiled the middle third both, into graphs that differ."""
    _, url, objects, environment = place
    first = make_cache(tmp_path / "first", range(20))
    second = make_cache(tmp_path / "second", range(10, 30), size=50_000)
    known = [contents(first), contents(second)]
    if not url.startswith("s3"):
        Path(url).mkdir()
    eager = CompileCache(tmp_path / "eager", COMPILER)
    pushers = [in_process(transfers.push, cache, url, environment) for cache in (first, second)]
    while any(process.is_alive() for process in pushers):
        join(in_process(transfers.pull, eager, url, environment))
        assert all(files in [one.get(name) for one in known] for name, files in contents(eager).items())
    join(*pushers)
    for name, versions in stored(objects()).items():
        expected = [one[name] for one in known if name in one]
        assert len(versions) == len(expected) and all(files in expected for files in versions), "both are kept"
    late = CompileCache(tmp_path / "late", COMPILER)
    late.pull(url)
    eager.pull(url)
    for cache in (late, eager):
        found = contents(cache)
        assert set(found) == {graph_name(number) for number in range(30)}
        assert all(files in [one.get(name) for one in known] for name, files in found.items())


def test_two_pullers_into_one_cache_end_with_whole_graphs(place, tmp_path):
    _, url, _, environment = place
    source = make_cache(tmp_path / "source", range(20))
    source.push(url)
    target = CompileCache(tmp_path / "target", COMPILER)
    join(*[in_process(transfers.pull, target, url, environment) for _ in range(2)])
    assert contents(target) == contents(source)
    assert not list(target.path.rglob(".making-*"))


def test_a_compile_that_runs_during_a_pull_is_left_alone(place, tmp_path):
    _, url, _, _ = place
    make_cache(tmp_path / "source", range(4)).push(url)
    target = CompileCache(tmp_path / "target", COMPILER)
    folder = add_locked(target.path, 2, age=1e6)
    code = "import fcntl, sys, time\nheld = open(sys.argv[1])\nprint(flush=True)\ntime.sleep(600)"
    lock = str(folder / "model.hlo_module.pb.lock")
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as compiler:
        compiler.stdout.readline()
        fetched = target.pull(url)
        compiler.kill()
    assert (fetched.sent, fetched.left) == (3, 1) and Path(lock).exists() and not (folder / "model.neff").exists()
    assert target.pull(url).sent == 1, "once it is gone, its graph makes way"


# ── refused for a while ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [500, 503])
def test_a_bucket_that_fails_for_a_while_is_waited_for(s3, status, tmp_path, monkeypatch):
    _, url, objects, _ = bucket_place(s3, monkeypatch)
    source, target = make_cache(tmp_path / "source"), CompileCache(tmp_path / "target", COMPILER)
    s3.requests()
    s3.fail(status, 12, alternating=True)
    assert source.push(url).sent == GRAPHS
    assert [fault for *_, fault in s3.requests()].count(str(status)) == 12
    assert stored(objects()) == {graph: [files] for graph, files in contents(source).items()}
    s3.requests()
    s3.fail(status, 12, alternating=True)
    assert target.pull(url).sent == GRAPHS and contents(target) == contents(source)
    assert [fault for *_, fault in s3.requests()].count(str(status)) == 12


def test_a_bucket_that_never_recovers_is_told_in_one_line(s3, tmp_path, monkeypatch):
    _, url, objects, _ = bucket_place(s3, monkeypatch)
    source, target = make_cache(tmp_path / "source"), CompileCache(tmp_path / "target", COMPILER)
    source.push(url)
    monkeypatch.setattr("helpers.store.ATTEMPTS", 2)
    s3.fail(503, 10_000, "GET")
    with pytest.raises(TransferError, match=r"S3 answered SlowDown: try again later$"):
        target.pull(url)
    s3.fail(500, 10_000, "PUT")
    with pytest.raises(TransferError, match=r"S3 answered InternalError: try again later$"):
        source.push(f"{url}/other")
    s3.fail(500, 0)
    assert target.summary().states == {} and not list(target.path.rglob("model.*"))
    assert not [key for key in objects() if key.startswith("other/manifests")]


# ── out of room ─────────────────────────────────────────────────────────────────────────────────────────────


def pull_with_little_room(root: str, url: str, environment: dict[str, str], said: str, limit: int) -> None:
    """In a process of its own: no file may be larger than `limit` bytes."""
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.environ.update(environment)
    try:
        CompileCache(root, COMPILER).pull(url)
    except OSError as error:
        Path(said).write_text(str(error))


def assert_no_room_is_told(place, target: CompileCache, source: CompileCache, said: Path, limit: int) -> None:
    _, url, _, environment = place
    arguments = (str(target.path), url, environment, str(said), limit)
    process = PROCESSES.Process(target=pull_with_little_room, args=arguments)
    process.start()
    join(process)
    assert "no room for another graph" in said.read_text() and "free some space and pull again" in said.read_text()
    found = contents(target)
    assert found.items() <= contents(source).items() and len(found) < len(contents(source))
    assert not list(target.path.rglob(".making-*"))


def test_a_file_too_large_for_the_disk_is_told_and_leaves_nothing(place, tmp_path):
    """A limit on file sizes, which fails in the same call as a full disk."""
    source, target = make_cache(tmp_path / "source", range(4)), CompileCache(tmp_path / "target", COMPILER)
    make_cache(tmp_path / "source", range(50, 53), size=500_000)
    source.push(place[1])
    assert_no_room_is_told(place, target, source, tmp_path / "said", limit=200_000)
    assert target.pull(place[1]).ok and contents(target) == contents(source)


def test_a_full_disk_is_told_and_leaves_nothing(place, tmp_path):
    """A real disk of 1 MiB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here; the limit on file sizes stands for it")
    try:
        source, target = make_cache(tmp_path / "source", range(30)), CompileCache(disk / "cache", COMPILER)
        source.push(place[1])
        assert_no_room_is_told(place, target, source, tmp_path / "said", limit=0)
        assert 0 < target.summary().compiled < 30
        assert target.repair() == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
