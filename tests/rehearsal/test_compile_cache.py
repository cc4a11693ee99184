"""The compile cache with the real Optimum Neuron: its reading of the location, and cold, warm and foretold starts.

XLA's CPU device writes the graphs that it compiles into the cache and knows them again, but can't load them. So a warm
start shows that every graph is recognised across processes; that it saves the compiling only a Trainium can show.
"""

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from helpers.files import REPOSITORY
from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.fingerprint import fingerprints
from helpers.neuron.compile_cache.settings import configure
from helpers.training.base_model import SMOKE
from tests.rehearsal.launch import ONE_PROCESS

COMPILER = f"xla-cpu-{importlib.metadata.version('torch-xla')}"
RUN = ("--method", "orpo", "--model", SMOKE, "--max_length", "64", "--per_device_train_batch_size", "2")
RUN += ("--pairs", "12", "--bf16", "False")


def start(cache, output, *arguments: str, **environment: str) -> str:
    """What scripts/train.py says, with its graphs kept in a cache."""
    command = [sys.executable, "-m", "tests.rehearsal.launch", "scripts/train.py", "--output_dir", str(output), *RUN]
    kept = {name: value for name, value in os.environ.items() if name not in ONE_PROCESS}
    environment = (
        kept | {"NEURON_COMPILE_CACHE_URL": str(cache), "NEURON_CC_FLAGS": f"--cache_dir={cache}"} | environment
    )
    done = subprocess.run([*command, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def graphs(said: str) -> tuple[int, int]:
    """(compiled, of them new)."""
    found = re.search(r"XLA compiled (\d+) graphs, (\d+) of them new", said)
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("name", ["plain", "a.b", ".cache/nc", "with space", "Käfer"])
def test_optimum_neuron_itself_reads_what_was_configured(name, tmp_path, monkeypatch):
    from optimum.neuron.utils.cache_utils import get_neuron_cache_path

    (tmp_path / "links").mkdir()
    monkeypatch.setenv("NEURON_CC_FLAGS", "--model-type=transformer --cache_dir=s3://b/x")
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", "")
    assert str(get_neuron_cache_path()) == "s3", "the trap that this is about"
    configured = configure(tmp_path / name, links=tmp_path / "links")
    assert get_neuron_cache_path() == configured.path and os.path.samefile(configured.path, tmp_path / name)


def test_the_instructors_path(tmp_path):
    """Precompile, push, pull into an empty cache, and start there: no graph is new, and that was foretold."""
    first, second = CompileCache(tmp_path / "first", COMPILER), CompileCache(tmp_path / "second", COMPILER)
    assert "unknown: no finished run" in start(first.path, tmp_path / "a", "--will_it_compile", "True")

    cold = start(first.path, tmp_path / "b", NEURON_EXTRACT_GRAPHS_ONLY="1")
    compiled, new = graphs(cold)
    assert compiled == new > 0 and "graph 1 compiled (" in cold
    assert first.summary().compiled == new
    (record,) = fingerprints(first.path)
    assert len(record["graphs"]) == new and record["count"] == new

    first.push(str(tmp_path / "shared"))
    second.pull(str(tmp_path / "shared"))
    assert second.summary().graphs == first.summary().graphs

    foretold = start(second.path, tmp_path / "c", "--will_it_compile", "True", "--max_steps", "6")
    assert re.search(r"^no: the run of .* had the same settings, and its graphs are here$", foretold, re.MULTILINE)
    assert not (tmp_path / "c").exists(), "it only answers"
    warm = start(second.path, tmp_path / "d", "--max_steps", "6")
    assert graphs(warm) == (compiled, 0) and "known, but XLA's CPU device can't load it: compiled again" in warm
    assert second.summary().graphs == first.summary().graphs

    changed = start(second.path, tmp_path / "e", "--will_it_compile", "True", "--max_length", "96")
    assert re.search(r"^yes: .*max_length 64 → 96 differs$", changed, re.MULTILINE)
    decayed = start(second.path, tmp_path / "e", "--will_it_compile", "True", "--weight_decay", "0.01")
    assert re.search(r"^unknown: .*weight_decay 0.0 → 0.01 differs: a number in the step", decayed, re.MULTILINE)
    longer = start(second.path, tmp_path / "f", "--max_length", "96", "--max_steps", "2")
    assert graphs(longer)[1] > 0, "as foretold"
