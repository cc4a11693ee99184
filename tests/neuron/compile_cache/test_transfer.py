"""Push and pull, to a folder and to a real S3 API on loopback: what is moved, and what never is."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from helpers import store
from helpers.files import REPOSITORY
from helpers.neuron.compile_cache import CompileCache, manifest, sharing
from helpers.neuron.compile_cache.__main__ import main
from helpers.neuron.compile_cache.layout import FINGERPRINTS
from helpers.neuron.compile_cache.sample import (
    COMPILER,
    GRAPH_LOCK,
    OLDER_COMPILER,
    TWO_DAYS,
    add_compiled,
    add_failed,
    add_locked,
    graph_name,
    make_older,
    make_sample,
)
from helpers.store import CorruptError, S3Store, TransferError, open_store
from tests.neuron.compile_cache.s3_server import Server
from tests.neuron.compile_cache.transfers import contents, in_bucket, in_folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


class Place:
    """Somewhere to share graphs through, and a view behind its back."""

    def __init__(self, url: str, objects, put):
        self.url, self.objects, self.put = url, objects, put


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> Place:
    if request.param == "folder":
        root = tmp_path / "shared"

        def put(key: str, content: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(content)

        return Place(str(root), lambda: in_folder(root), put)
    return bucket_place(request.getfixturevalue("s3"), monkeypatch)


def bucket_place(server: Server, monkeypatch) -> Place:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    client, bucket = server.client(), server.bucket(f"b{uuid.uuid4().hex}")

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"class/neuron/{key}", Body=content)

    return Place(f"s3://{bucket}/class/neuron", lambda: in_bucket(client, bucket, "class/neuron/", {}), put)


@pytest.fixture
def bucket(s3, monkeypatch) -> Place:
    return bucket_place(s3, monkeypatch)


@pytest.fixture
def cache(tmp_path) -> CompileCache:
    return CompileCache(make_sample(tmp_path / "cache"), COMPILER)


@pytest.fixture
def second(tmp_path) -> CompileCache:
    return CompileCache(tmp_path / "second", COMPILER)


# ── the round trip ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_finished_arrives_whole_and_nothing_else(place, cache, second):
    finger = cache.path / COMPILER / FINGERPRINTS / "0123abcd.json"
    finger.parent.mkdir()
    finger.write_text('{"settings": {}}')
    sent = cache.push(place.url)
    assert (sent.sent, sent.unchanged, sent.ok, sent.warnings) == (7, 0, True, [])
    assert not any(OLDER_COMPILER in key for key in place.objects())
    fetched = second.pull(place.url)
    assert (fetched.sent, fetched.unchanged, fetched.ok) == (7, 0, True)
    assert 0 < sent.bytes == fetched.bytes
    mine = {name: files for name, files in contents(cache).items() if (cache.path / COMPILER / name).is_dir()}
    assert contents(second) == mine and len(mine) == 6
    assert second.summary().graphs == cache.summary().graphs and second.summary().states == {"compiled": 6}
    assert (second.path / finger.relative_to(cache.path)).read_bytes() == finger.read_bytes()
    assert "7 fetched, 0 there already" in str(fetched)


def test_nothing_is_moved_twice(place, cache, second):
    cache.push(place.url)
    second.pull(place.url)
    before = place.objects()
    again, pulled = cache.push(place.url), second.pull(place.url)
    assert (again.sent, again.unchanged, again.bytes) == (0, 6, 0) and place.objects() == before
    assert (pulled.sent, pulled.unchanged, pulled.bytes) == (0, 6, 0)


def test_an_unchanged_push_of_a_thousand_graphs_lists_once_and_sends_nothing(bucket, s3, tmp_path):
    cache = CompileCache(tmp_path / "cache", COMPILER)
    for number in range(1000):
        add_compiled(cache.path, number, size=10)
    for compiler, name, path in sharing.finished(cache.path, COMPILER):  # as a push leaves it, without the files
        written = manifest.manifest_of(manifest.files_of(path))
        bucket.put(manifest.Shared(compiler, name, manifest.digest_of(written)).key, written)
    s3.requests()
    assert (cache.push(bucket.url).unchanged, [kind for kind, *_ in s3.requests()]) == (1000, ["LIST"])
    add_compiled(cache.path, 1000)
    assert cache.push(bucket.url).sent == 1
    assert sorted(kind for kind, *_ in s3.requests()) == ["LIST"] + ["PUT"] * 5
    cache.push(bucket.url)
    assert [kind for kind, *_ in s3.requests()] == ["LIST", "LIST"], "one for each thousand keys"


def test_each_file_is_sent_once_and_its_graphs_manifest_after_it(bucket, s3, cache):
    s3.requests()
    cache.push(bucket.url)
    puts = [path.partition("/class/neuron/")[2] for kind, path, _ in s3.requests() if kind == "PUT"]
    assert len(puts) == len(set(puts)) == 6 * (4 + 1)
    for number in range(6):
        of_graph = [key for key in puts if graph_name(number) in key]
        assert [key.partition("/")[0] for key in of_graph] == ["graphs"] * 4 + ["manifests"]


def test_a_graph_compiled_anew_is_sent_and_the_newest_is_pulled(place, cache, second):
    cache.push(place.url)
    neff = cache.path / COMPILER / graph_name(0) / "model.neff"
    neff.write_bytes(b"compiled again")
    assert cache.push(place.url).sent == 1
    second.pull(place.url)
    assert (second.path / neff.relative_to(cache.path)).read_bytes() == b"compiled again"


def test_other_compilers_are_left_alone(place, cache, second, monkeypatch):
    monkeypatch.setattr("helpers.neuron.compile_cache.fingerprint.current_compiler", lambda: None)
    CompileCache(cache.path, OLDER_COMPILER).push(place.url)
    before = place.objects()
    assert second.pull(place.url).sent == 0 and second.summary().compiled == 0
    cache.push(place.url)
    assert before.items() <= place.objects().items()
    everything = CompileCache(second.path)
    assert everything.pull(place.url).sent == 9 and everything.summary().compilers == {COMPILER: 6, OLDER_COMPILER: 3}


def test_paths_with_dots_spaces_and_unicode(tmp_path):
    cache = CompileCache(make_sample(tmp_path / "a b.c" / "Käfer 日本"), COMPILER)
    shared, second = tmp_path / "sha red.é", CompileCache(tmp_path / "zwei té.", COMPILER)
    cache.push(str(shared))
    assert second.pull(str(shared)).sent == 6 and second.summary().graphs == cache.summary().graphs


def test_the_rehearsals_graphs_travel_as_single_files(place, tmp_path):
    compiler = "xla-cpu-2.8.0"
    first, second = CompileCache(tmp_path / "a", compiler), CompileCache(tmp_path / "b", compiler)
    (first.path / compiler).mkdir(parents=True)
    (first.path / compiler / "1234").write_bytes(b"a graph")
    (first.path / compiler / "99").write_bytes(b"")
    assert first.summary().states == {"compiled": 1, "incomplete": 1}
    first.push(place.url)
    assert second.pull(place.url).sent == 1
    assert (second.path / compiler / "1234").read_bytes() == b"a graph"
    assert second.summary().graphs == first.summary().graphs


# ── what is there already ───────────────────────────────────────────────────────────────────────────────────


def test_failed_and_abandoned_graphs_make_way_and_running_compiles_do_not(place, cache, second):
    cache.push(place.url)
    add_failed(second.path, 0)
    add_locked(second.path, 1, age=TWO_DAYS)
    running = add_locked(second.path, 2)
    mine = add_compiled(second.path, 3, size=77)
    fetched = second.pull(place.url)
    assert (fetched.sent, fetched.unchanged, fetched.left) == (4, 1, 1) and "1 left alone" in str(fetched)
    assert sorted(path.name for path in running.iterdir()) == sorted(
        [GRAPH_LOCK, "compile_flags.json", "model.hlo_module.pb"]
    )
    assert (mine / "model.neff").stat().st_size == 77
    assert second.summary().states == {"compiled": 5, "compiling": 1}
    assert len(list((second.path / ".removed").rglob("model.log"))) == 1


def test_what_a_killed_pull_left_is_told_and_moved(tmp_path):
    left = tmp_path / COMPILER / ".making-abc" / graph_name(1)
    left.mkdir(parents=True)
    cache = CompileCache(tmp_path, COMPILER)
    assert cache.problems() == [] and cache.summary().states == {}
    make_older(left.parent, TWO_DAYS)
    assert [problem.kind for problem in cache.repair(dry_run=False)] == ["unfinished transfer"]
    assert cache.problems() == []


def test_what_a_killed_push_left_half_written_is_swept_up(tmp_path, cache):
    shared = tmp_path / "shared"
    cache.push(str(shared))
    old, young = shared / ".sending" / "1-old", shared / ".sending" / "2-young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.push(str(shared))
    assert [path.name for path in (shared / ".sending").iterdir()] == [young.name]


# ── what is damaged or hostile ──────────────────────────────────────────────────────────────────────────────


def key_of(objects: dict[str, bytes], file: str, graph: str) -> str:
    return next(key for key in objects if key.startswith("graphs/") and graph in key and key.endswith(f"/{file}"))


@pytest.mark.parametrize("damage", [lambda content: content[:-1] + b"!", lambda content: content[:100], lambda _: b""])
def test_a_damaged_graph_is_left_out_and_told_and_a_forced_push_mends_it(place, cache, second, damage):
    cache.push(place.url)
    objects = place.objects()
    key = key_of(objects, "model.neff", graph_name(2))
    place.put(key, damage(objects[key]))
    fetched = second.pull(place.url)
    assert fetched.sent == 5 and not fetched.ok and len(fetched.failed) == 1
    assert graph_name(2) in fetched.failed[0] and "model.neff is damaged" in fetched.failed[0]
    assert graph_name(2) not in {entry.name for entry in second.entries()}
    assert not list(second.path.rglob(".making-*"))
    assert cache.push(place.url).sent == 0
    assert cache.push(place.url, force=True).sent == 6
    assert second.pull(place.url).sent == 1 and second.summary().graphs == cache.summary().graphs


def test_a_fetch_that_fails_leaves_what_is_unfinished_here_as_it_was(place, cache, second):
    cache.push(place.url)
    key = key_of(place.objects(), "model.neff", graph_name(2))
    place.put(key, b"!")
    waiting = second.path / COMPILER / graph_name(2) / "model.hlo_module.pb"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b"graph")
    assert not second.pull(place.url).ok
    assert waiting.read_bytes() == b"graph" and not (second.path / ".removed").exists()
    assert sorted(os.listdir(waiting.parent)) == [waiting.name], "nor is it locked"


def test_a_missing_object_is_told(tmp_path, cache, second):
    shared = tmp_path / "shared"
    cache.push(str(shared))
    (shared / key_of(in_folder(shared), "model.neff", graph_name(2))).unlink()
    (failed,) = second.pull(str(shared)).failed
    assert "an object is missing (No such file or directory): push it again with force" in failed


def test_a_missing_object_in_s3_is_told(bucket, s3, cache, second):
    cache.push(bucket.url)
    key = key_of(bucket.objects(), "model.neff", graph_name(2))
    s3.client().delete_object(Bucket=bucket.url.split("/")[2], Key=f"class/neuron/{key}")
    (failed,) = second.pull(bucket.url).failed
    assert "an object is missing: push it again with force" in failed


def test_s3_refuses_contents_that_are_not_those_of_the_checksum(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"changed since")
    with pytest.raises(CorruptError, match="S3 answered BadDigest: a file changed while it was sent: push again"):
        open_store(bucket.url).send(tmp_path / "file", "graphs/x", "aa" * 32)
    assert bucket.objects() == {}


def hostile(name: str, files: dict, compiler: str = COMPILER) -> tuple[str, bytes]:
    written = json.dumps({"files": files}).encode()
    return f"manifests/{compiler}/{name}@{manifest.digest_of(written)}.json", written


EVIL = hashlib.sha256(b"evil").hexdigest()  # so that no checksum is what refuses them
WHOLE = {name: {"sha256": EVIL, "size": 4} for name in ("model.neff", "model.done")}
HOSTILE = {
    "a key that leads out": hostile("../../evil", WHOLE),
    "a key that leads out of its module": hostile(f"{graph_name(50)}/../../../evil", WHOLE),
    "a compiler that leads out": hostile(graph_name(50), WHOLE, ".."),
    "an absolute name": hostile("/evil", WHOLE),
    "a file that leads out": hostile(graph_name(50), WHOLE | {"../../../evil": WHOLE["model.neff"]}),
    "an absolute file": hostile(graph_name(50), WHOLE | {"/evil": WHOLE["model.neff"]}),
    "a checksum that leads out": hostile(
        graph_name(50), WHOLE | {"model.neff": {"sha256": "../../../../etc/passwd", "size": 1}}
    ),
    "an unfinished graph": hostile(graph_name(50), {"model.neff": WHOLE["model.neff"]}),
    "no manifest": (f"manifests/{COMPILER}/{graph_name(50)}@{manifest.digest_of(b'[]')}.json", b"[]"),
    "no JSON": (f"manifests/{COMPILER}/{graph_name(50)}@{manifest.digest_of(b'nonsense')}.json", b"nonsense"),
    "a manifest that was changed": (f"manifests/{COMPILER}/{graph_name(50)}@{'0' * 16}.json", b'{"files": {}}'),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_leads_out_of_the_cache(what, bucket, tmp_path, cache):
    """Keys and manifests made by somebody else: S3 lets keys have any characters."""
    cache.push(bucket.url)
    key, manifest = HOSTILE[what]
    bucket.put(key, manifest)
    for file in ("model.neff", "model.done", "../../../evil", "/evil"):
        bucket.put(f"{key.replace('manifests/', 'graphs/').removesuffix('.json')}/{file}", b"evil")
    outer = tmp_path / "outer"
    second = CompileCache(outer / "middle" / "cache", COMPILER)
    second.path.mkdir(parents=True)
    fetched = CompileCache(second.path, "").pull(bucket.url) if "compiler" in what else second.pull(bucket.url)
    assert fetched.failed or fetched.warnings, "it is told"
    allowed = {graph_name(number) for number in range(6)}
    assert {entry.name for entry in second.entries()} <= allowed
    assert {path.name for path in outer.iterdir()} == {"middle"}
    assert {path.name for path in second.path.parent.iterdir()} == {"cache"}
    assert not list(outer.rglob("evil*"))


def test_a_link_that_leads_out_of_a_shared_folder_reads_nothing(tmp_path, second):
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    secret.write_bytes(b"secret")
    sha = hashlib.sha256(b"secret").hexdigest()
    key, manifest = hostile(graph_name(1), {name: {"sha256": sha, "size": 6} for name in WHOLE})
    folder = shared / key.replace("manifests/", "graphs/").removesuffix(".json")
    for path in ((shared / key).parent, folder):
        path.mkdir(parents=True)
    (shared / key).write_bytes(manifest)
    for name in WHOLE:
        (folder / name).symlink_to(secret)
    assert len(second.pull(str(shared)).failed) == 1
    assert second.summary().states == {} and b"secret" not in in_folder(second.path).values()


def test_pull_does_not_write_through_a_link_in_the_cache(place, cache, second, tmp_path):
    cache.push(place.url)
    outside = tmp_path / "outside"
    outside.mkdir()
    second.path.mkdir()
    (second.path / COMPILER).symlink_to(outside)
    fetched = second.pull(place.url)
    assert fetched.sent == 0 and len(fetched.failed) == 6 and "symbolic link" in fetched.failed[0]
    assert list(outside.iterdir()) == []


def test_push_sends_nothing_that_a_link_leads_to(place, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    cache = CompileCache(tmp_path / "cache", COMPILER)
    folder = add_compiled(cache.path, 1)
    (folder / "model.neff").unlink()
    (folder / "model.neff").symlink_to(tmp_path / "secret")
    assert cache.push(place.url).sent == 0
    assert place.objects() == {}


# ── places that can't be used ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["s3:/bucket", "s3://", "s3://Bad_Bucket!/x", "https://example.com/x", "gs://b/x"])
def test_an_impossible_place_is_refused(url, cache):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        cache.push(url)


def test_the_cache_itself_is_no_place_to_share_through(cache):
    for url in (cache.path, cache.path / "inside", cache.path.parent):
        with pytest.raises(ValueError, match="must be folders apart"):
            cache.push(str(url))


def test_a_missing_folder_bucket_or_credential_is_told_in_one_line(bucket, tmp_path, second, monkeypatch):
    with pytest.raises(TransferError, match="there is no such folder: push to it first"):
        second.pull(str(tmp_path / "nowhere"))
    with pytest.raises(TransferError, match="S3 answered NoSuchBucket: create the bucket"):
        second.pull("s3://no-such-bucket-anywhere/x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TransferError, match="no AWS credentials were found: give the instance a role"):
        second.pull(bucket.url)


def test_a_bucket_that_forbids_writing_fails(bucket, s3, cache):
    s3.fail(403, 1000, "PUT")
    sent = cache.push(bucket.url)
    s3.fail(403, 0)
    assert sent.sent == 0 and not sent.ok
    assert "can't be written to (AccessDenied): nothing more was sent; pull still works" in str(sent)


AS_NOBODY = """
import os, sys
import tqdm.auto
from helpers.neuron.compile_cache import CompileCache
from helpers.store import TransferError
os.environ["TMPDIR"] = sys.argv[2]
if os.getuid() == 0:
    os.seteuid(65534)  # root may write anywhere
cache = CompileCache(sys.argv[2], sys.argv[4])
try:
    print(getattr(cache, sys.argv[1])(sys.argv[3]))
except TransferError as error:
    print(error)
"""


def as_nobody(*arguments: str) -> str:
    """What a push or pull says in a process without the right to write."""
    command = [sys.executable, "-c", AS_NOBODY, *arguments, COMPILER]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_folder_or_cache_fails_in_one_line():
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        cache, shared, second = (Path(folder) / name for name in ("cache", "shared", "second"))
        CompileCache(make_sample(cache), COMPILER).push(str(shared))
        add_compiled(cache, 50)
        second.mkdir()
        Path(folder).chmod(0o755)
        closed = [path for path in (shared, *shared.rglob("*"), second) if path.is_dir()]
        for path in closed:
            path.chmod(0o555)
        said = [as_nobody("pull", str(second), str(shared)), as_nobody("push", str(cache), str(shared))]
        for path in shared.glob("graphs/*/*/*"):
            path.chmod(0o000)
        second.chmod(0o777)
        said.append(as_nobody("pull", str(second), str(shared)))
        for path in closed:
            path.chmod(0o755)
        assert "second can't be written to (Permission denied): nothing more was fetched" in said[0]
        assert "shared can't be written to (Permission denied): nothing more was sent; pull still works" in said[1]
        assert said[2].strip() == f"{shared} can't be read (Permission denied)"
        assert CompileCache(second).summary().states == {} and not list(second.rglob("model.*"))


def test_without_boto3_s3_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ValueError, match="S3 needs boto3: pip install boto3"):
        cache.push("s3://some-bucket/x")


def test_requests_are_retried_by_boto3_itself(bucket):
    config = S3Store(bucket.url).client.meta.config
    assert config.retries["mode"] == "standard" and config.retries["total_max_attempts"] == store.ATTEMPTS


def test_a_pulled_graph_that_is_cut_later_is_noticed_and_fetched_again(place, cache, second):
    cache.push(place.url)
    second.pull(place.url)
    neff = second.path / COMPILER / graph_name(2) / "model.neff"
    neff.write_bytes(neff.read_bytes()[:100])
    assert second.summary().states == {"compiled": 5, "incomplete": 1}
    (problem,) = second.problems(older_than=0)
    assert "model.neff has 100 of the 120000 bytes that were pulled" in problem.says
    assert second.pull(place.url).sent == 1 and second.summary().states == {"compiled": 6}
    assert neff.read_bytes() == (cache.path / neff.relative_to(second.path)).read_bytes()


def test_a_pulled_graph_that_is_compiled_anew_is_compiled(place, cache, second):
    cache.push(place.url)
    second.pull(place.url)
    folder = second.path / COMPILER / graph_name(2)
    (folder / "model.neff").write_bytes(b"compiled here")
    os.utime(folder / "model.done", (time.time() + 5,) * 2)
    assert second.summary().states == {"compiled": 6} and second.pull(place.url).sent == 0


def test_a_place_with_nothing_for_this_compiler_says_what_it_holds(place, cache, second):
    CompileCache(cache.path, OLDER_COMPILER).push(place.url)
    fetched = second.pull(place.url)
    assert not fetched.ok and f"which holds 3 of {OLDER_COMPILER}" in str(fetched)


def test_a_mistyped_prefix_and_an_empty_cache_do_not_read_like_success(bucket, second):
    fetched, sent = second.pull(f"{bucket.url}-tpyo"), second.push(bucket.url)
    assert not fetched.ok and "nothing was pushed there, or its name is mistyped" in str(fetched)
    assert "credentials and region are right" in str(fetched)
    assert not sent.ok and "no finished graph" in str(sent)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_PROFILE": "nosuch"}, "set AWS_PROFILE to one that"),
        ({"AWS_CONFIG_FILE": "broken"}, "Unable to parse config file: .*broken: fix that file"),
        ({"AWS_ENDPOINT_URL_S3": "localhost:9"}, "set AWS_ENDPOINT_URL to one such as https://host"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": ""}, "set both AWS_ACCESS_KEY_ID"),
        ({"AWS_DEFAULT_REGION": "us east 1"}, "fix AWS_DEFAULT_REGION"),
    ],
)
def test_a_wrong_aws_setting_is_one_line_with_its_fix(environment, says, bucket, second, tmp_path, monkeypatch):
    (tmp_path / "broken").write_text("[default\nregion = x\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value == "broken" else value)
        if not value:
            monkeypatch.delenv(name)
    with pytest.raises(TransferError, match=says) as error:
        second.pull(bucket.url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("ExpiredToken", "have expired"),
        ("RequestTimeTooSkewed", "clock is wrong"),
        ("InvalidAccessKeyId", "aws configure"),
        ("SignatureDoesNotMatch", "aws configure"),
        ("PermanentRedirect", "AWS_DEFAULT_REGION"),
        ("SomethingNew", "S3 API's list of error responses"),
    ],
)
def test_each_answer_of_s3_has_its_own_fix(bucket, code, fix):
    from botocore.exceptions import ClientError

    with pytest.raises(TransferError, match=fix) as error, open_store(bucket.url).told():
        raise ClientError({"Error": {"Code": code}}, "ListObjectsV2")
    assert "try again later" not in str(error.value)


def test_a_file_as_cache_and_a_full_disk_are_one_line_with_the_fix(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    for command in ("status", "problems"):
        assert main(["--cache", str(tmp_path / "file"), command]) == 2
        assert capsys.readouterr().err == f"compile_cache: {tmp_path / 'file'} is a file: give the cache's folder\n"

    def fill(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CompileCache, "push", fill)
    assert main(["--cache", str(tmp_path / "cache"), "push", str(tmp_path / "store")]) == 1
    assert "No space left on device: no space is left: free some, or choose" in capsys.readouterr().err
