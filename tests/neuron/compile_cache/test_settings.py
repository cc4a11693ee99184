"""One location for compiler and Optimum Neuron: what is set, what is mapped, what is refused, what is kept."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.settings import compiler_reads, configure, disagreement, optimum_reads

FLAGS, URL = "NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"


def as_documented(flags: str) -> str | None:
    """get_neuron_cache_path() of Optimum Neuron 0.4.5, as its source reads."""
    if "--no-cache" in flags:
        return None
    found = re.search(r"--cache_dir=([\w\/-]+)", flags)
    return found.group(1) if found else "/var/tmp/neuron-compile-cache"


@pytest.fixture
def links(tmp_path):
    (tmp_path / "links").mkdir()
    return tmp_path / "links"


def test_both_get_the_same_place_and_it_is_told(tmp_path, capsys, monkeypatch):
    for name in (FLAGS, URL):
        monkeypatch.setenv(name, "")
    path = tmp_path / "cache"
    CompileCache(path).configure()
    said = capsys.readouterr().out
    assert f"{URL}={path}" in said and f"{FLAGS}=--cache_dir={path}" in said
    assert os.environ[URL] == as_documented(os.environ[FLAGS]) == str(path)
    assert path.is_dir() and CompileCache().path == path and CompileCache().problems() == []


@pytest.mark.parametrize(
    "flags",
    [
        "--model-type=transformer --auto-cast=none",
        "--retry_failed_compilation  -O1",
        """--tensorizer-options='--print-stats --dump="a b"' --lnc=2""",
        "--my_cache_dir=keep",
    ],
)
def test_other_flags_are_kept_as_they_are(flags, tmp_path):
    environment = {FLAGS: flags}
    configure(tmp_path, environment)
    assert environment[FLAGS] == f"{flags} --cache_dir={tmp_path}"
    configure(tmp_path, environment)
    assert environment[FLAGS] == f"{flags} --cache_dir={tmp_path}", "twice is once"


@pytest.mark.parametrize(
    "earlier",
    [
        "--cache_dir=/old",
        "--cache_dir /old",
        "--cache_dir='/o l d'",
        '--cache_dir="s3://b/c"',
        "--cache_dir=/a -O1 --cache_dir=/b",
    ],
)
def test_an_earlier_place_is_replaced_in_every_spelling(earlier, tmp_path):
    environment = {FLAGS: f"--lnc=2 {earlier} --verbose=35", URL: "s3://bucket/prefix"}
    configure(tmp_path, environment)
    assert environment[FLAGS].split() == [
        "--lnc=2",
        *(["-O1"] if "-O1" in earlier else []),
        "--verbose=35",
        f"--cache_dir={tmp_path}",
    ]
    assert compiler_reads(environment) == as_documented(environment[FLAGS]) == environment[URL] == str(tmp_path)


@pytest.mark.parametrize("name", ["a.b", ".cache/nc", "with space", "Käfer", "日本", "a+b", "quo'te"])
def test_a_path_that_would_be_misread_is_reached_through_a_link(name, tmp_path, links):
    environment = {}
    configuration = configure(tmp_path / name, environment, links)
    assert as_documented(environment[FLAGS]) == environment[URL] == str(configuration.path)
    assert re.fullmatch(r"[A-Za-z0-9_/-]+", environment[URL])
    (configuration.path / "probe").touch()
    assert (tmp_path / name / "probe").exists()
    assert "would misread" in str(configuration) and name in str(configuration)
    assert configure(tmp_path / name, environment, links).path == configuration.path, "the same link again"
    assert (links / f"neuron-cache-{os.getuid()}").stat().st_mode & 0o777 == 0o700


@settings(deadline=None)
@given(st.lists(st.text("aé. /_-'=", min_size=1, max_size=6), min_size=1, max_size=3))
def test_whatever_the_path_both_read_it_alike(tmp_path_factory, parts):
    base = tmp_path_factory.mktemp("any")
    path = base.joinpath(*(part.strip("/. ") or "x" for part in parts))
    environment = {FLAGS: "-O1"}
    configure(path, environment, base)
    assert os.path.samefile(as_documented(environment[FLAGS]), path)
    assert compiler_reads(environment) == optimum_reads(environment) == as_documented(environment[FLAGS])


def test_s3_as_the_place_itself_is_refused_with_the_mend(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="keep the cache in a local folder, and share it with push and pull"):
        configure(Path("s3:/bucket/x"), {})
    with pytest.raises(ValueError, match="s3://bucket/prefix: a cache there would be misread"):
        CompileCache("s3://bucket/prefix")
    monkeypatch.setenv(FLAGS, "")
    monkeypatch.setenv(URL, "s3://bucket/prefix")
    with pytest.raises(ValueError, match="s3://bucket/prefix: a cache there would be misread"):
        CompileCache()


def test_a_link_that_is_not_this_users_alone_is_refused(tmp_path, links):
    trap = links / f"neuron-cache-{os.getuid()}"
    trap.symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not this user's alone: choose a cache path of the characters"):
        configure(tmp_path / "a.b", {}, links)
    trap.unlink()
    trap.mkdir()
    trap.chmod(0o777)
    with pytest.raises(ValueError, match="is not this user's alone"):
        configure(tmp_path / "a.b", {}, links)
    trap.chmod(0o700)
    with pytest.raises(ValueError, match=r"no safe name for .* can be made in"):
        configure(tmp_path / "a.b", {}, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no safe name"):
        configure(tmp_path / "a.b", {}, tmp_path / "dotted.links")


@pytest.mark.parametrize("off", ["--no_cache", "-O1 --no_cache", "--no-cache"])
def test_no_cache_is_respected(off, tmp_path):
    environment = {FLAGS: off}
    configuration = configure(tmp_path / "cache", environment)
    assert environment == {FLAGS: off} and configuration.set == {} and "nothing is cached" in str(configuration)
    assert compiler_reads(environment) is None and disagreement(environment) is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("environment", "compiler", "optimum"),
    [
        ({}, "/var/tmp/neuron-compile-cache", "/var/tmp/neuron-compile-cache"),
        ({URL: "/data/nc"}, "/data/nc", "/var/tmp/neuron-compile-cache"),
        ({FLAGS: "--cache_dir=s3://b/nc"}, "s3://b/nc", "s3"),
        ({FLAGS: "--cache_dir=/home/u/.cache/nc"}, "/home/u/.cache/nc", "/home/u/"),
        ({FLAGS: "--cache_dir /data/nc"}, "/data/nc", "/var/tmp/neuron-compile-cache"),
        ({FLAGS: '--cache_dir="/data/nc"'}, "/data/nc", "/var/tmp/neuron-compile-cache"),
        ({FLAGS: "--cache_dir=/data/nc", URL: "/other"}, "/data/nc", "/data/nc"),
    ],
)
def test_the_traps_are_known(environment, compiler, optimum):
    assert (compiler_reads(environment), optimum_reads(environment)) == (compiler, optimum)
    assert as_documented(environment.get(FLAGS, "")) == optimum
    assert bool(disagreement(environment)) == (compiler != optimum)


def test_a_folder_that_cannot_be_written_to_or_made_is_told(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert "can't be written to (Read-only file system)" in str(configure(tmp_path, {}))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"can't be made .*: choose another folder"):
        configure(tmp_path / "file" / "cache", {})
