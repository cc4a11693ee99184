"""The container's entry point on a re-rooted /opt/ml: one host, two hosts, an interruption, what goes wrong."""

import importlib.metadata
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.neuron.compile_cache import CompileCache, fingerprint
from helpers.neuron.compile_cache.sample import COMPILER, add_compiled, graph_name
from helpers.sagemaker.instance import lay_out
from scripts import sagemaker_entry
from tests.planted import PLANTED
from tests.sagemaker.opt_ml import free_port, make, records, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_host(tmp_path_factory):
    """Four steps of four pairs on one host: (base folder, what it said)."""
    base = make(tmp_path_factory.mktemp("one") / "ml", {"max_steps": 4, "per_device_train_batch_size": 4})
    process = start(base, MASTER_PORT=free_port())
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return base, said


def test_model_and_run_folder_are_where_sagemaker_collects_them(one_host):
    base, said = one_host
    assert [record["step"] for record in records(said)] == [1, 2, 3, 4] and "16 pairs" in said
    assert (base / "model" / "model.safetensors").is_file()
    kept = base / "output" / "data"
    assert json.loads((kept / "results.json").read_text())["methods"]["orpo"]["steps"] == 4
    assert len((kept / "orpo" / "log.jsonl").read_text().splitlines()) == 4
    assert not (kept / "orpo" / "checkpoints").exists() and not (base / "output" / "failure").exists()


def test_two_hosts_form_one_group_and_train_as_one_host_does_at_the_same_global_batch(one_host, tmp_path):
    hosts, port = ("127.0.0.1", "127.0.0.2"), free_port()
    bases = [make(tmp_path / host, {"max_steps": 4, "per_device_train_batch_size": 2}, hosts, host) for host in hosts]
    processes = [start(base, MASTER_PORT=port) for base in bases]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert not records(said[1]) and (bases[0] / "model" / "model.safetensors").is_file(), "one log"
    assert not any((bases[1] / "model").iterdir()) and not any((bases[1] / "output/data").iterdir()), "one model"
    alone, both = records(one_host[1]), records(said[0])
    assert [each["loss"] for each in both] == pytest.approx([each["loss"] for each in alone], abs=1e-4)


def test_after_a_kill_the_remaining_steps_follow_from_the_last_checkpoint(one_host, tmp_path):
    base = make(tmp_path / "ml", {"max_steps": 4, "per_device_train_batch_size": 4})
    stage = base / "checkpoints" / "run" / "orpo"
    process = start(base, MASTER_PORT=free_port())
    for line in process.stdout:
        if line.startswith("{") and json.loads(line)["step"] == 3:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (stage / "checkpoints" / "checkpoint-2" / "trainer_state.json").is_file()
    again = start(base, MASTER_PORT=free_port())
    said = again.communicate()[0]
    assert again.returncode == 0 and "Resuming from checkpoint-2" in said, said
    assert [record["step"] for record in records(said)] == [3, 4]
    logged = [json.loads(line) for line in (base / "output/data/orpo/log.jsonl").read_text().splitlines()]
    untouched = records(one_host[1])
    assert [record["step"] for record in logged] == [1, 2, 3, 4]
    assert [record["loss"] for record in logged] == pytest.approx([each["loss"] for each in untouched], abs=1e-4)


def test_what_failed_is_the_failure_that_sagemaker_shows(tmp_path):
    base = make(tmp_path / "ml", {"max_steps": 1})
    (base / "input/data/train/train.jsonl").write_text('{"prompt": "a?", "chosen": " ", "rejected": "b"}\n')
    process = start(base, MASTER_PORT=free_port())
    process.communicate()
    assert process.returncode == 1
    failure = (base / "output" / "failure").read_text()
    assert "row 0, chosen: the response is empty" in failure and "\n" not in failure


def test_a_byte_that_is_no_utf8_ends_no_training(tmp_path, monkeypatch):
    says = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n'); print('train.py: trained')"
    monkeypatch.setattr(sagemaker_entry.Container, "command", lambda *_: [sys.executable, "-c", says])
    monkeypatch.setattr(sagemaker_entry, "way_to_start", lambda _: [])
    monkeypatch.setattr(sagemaker_entry.signal, "signal", lambda *_: None)
    assert sagemaker_entry.train(sagemaker_entry.Container(tmp_path), token="") == (0, "train.py: trained")


def test_the_runtimes_reason_is_told_and_not_torchruns_summary(tmp_path, monkeypatch):
    says = (
        "print('ERROR  NRT:nrt_allocate_neuron_cores  NeuronCore(s) not available - Requested:2 Available:0');"
        "print('torch.distributed.elastic.multiprocessing.errors.ChildFailedError: scripts/train.py FAILED');"
        "print('=' * 60); raise SystemExit(1)"
    )
    monkeypatch.setattr(sagemaker_entry.Container, "command", lambda *_: [sys.executable, "-c", says])
    monkeypatch.setattr(sagemaker_entry, "way_to_start", lambda _: [])
    monkeypatch.setattr(sagemaker_entry.signal, "signal", lambda *_: None)
    code, said = sagemaker_entry.train(sagemaker_entry.Container(tmp_path), token="")
    assert code == 1 and "NeuronCore(s) not available" in said


@pytest.mark.parametrize("planted", [*PLANTED.values(), "a token of no known form"], ids=[*PLANTED, "the token"])
def test_neither_the_token_nor_any_other_credential_is_in_log_or_failure(planted, tmp_path, monkeypatch, capsys):
    says = f"print('step 1 {planted} done'); raise SystemExit('train.py: can not read with {planted}')"
    monkeypatch.setattr(sagemaker_entry.Container, "command", lambda *_: [sys.executable, "-c", says])
    monkeypatch.setattr(sagemaker_entry, "way_to_start", lambda _: [])
    monkeypatch.setattr(sagemaker_entry.signal, "signal", lambda *_: None)
    code, said = sagemaker_entry.train(sagemaker_entry.Container(tmp_path), token="a token of no known form")
    shown = capsys.readouterr().out
    assert code == 1 and "step 1 [" in shown and said.startswith("train.py: can not read with [")
    assert planted not in shown + said


@pytest.mark.parametrize(
    ("method", "shapes", "way", "says"),
    [
        ("orpo", False, "--resume_from_checkpoint", "Resuming from checkpoint-4"),
        ("orpo", True, "--start_from_checkpoint", "Optimum Neuron can't resume: a new start from the weights of check"),
        ("sft", True, "--start_from_checkpoint", "a new start from the weights of checkpoint-4"),
        ("dpo", True, "--overwrite_output_dir", "DPO's reference is the model before the first step"),
    ],
)
def test_what_an_interrupted_run_left_is_gone_on_from_as_far_as_that_goes(
    method, shapes, way, says, tmp_path, monkeypatch, capsys
):
    lay_out(tmp_path / "ml", {"method": method})
    container = sagemaker_entry.Container(tmp_path / "ml")
    assert sagemaker_entry.way_to_start(container) == ["--overwrite_output_dir", "True"], "nothing is there yet"
    for step, state in ((2, "{}"), (4, "{}"), (6, None)):  # a kill cut the last one off
        folder = container.run / method / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        if state:
            (folder / "trainer_state.json").write_text(state)
    monkeypatch.setattr("helpers.backends.detect", lambda _: SimpleNamespace(fixed_shapes=shapes), raising=False)
    start = sagemaker_entry.way_to_start(container)
    whole = str(container.run / method / "checkpoints" / "checkpoint-4")
    assert start == [way, "True" if way == "--overwrite_output_dir" else whole]
    assert container.command(start)[-2:] == start and says in capsys.readouterr().out


@pytest.mark.parametrize("adapter", [False, True])
def test_several_hosts_speak_over_the_network_that_sagemaker_names_and_over_efa_where_it_is(
    adapter, tmp_path, monkeypatch
):
    monkeypatch.setattr(sagemaker_entry, "EFA", tmp_path if adapter else tmp_path / "none")
    hosts = ("algo-1", "algo-2", "algo-10")
    base = lay_out(tmp_path / "ml", {"method": "orpo"}, hosts, "algo-2")
    container = sagemaker_entry.Container(base)
    network = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    efa = {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1"} if adapter else {}
    own = {"SM_MODEL_DIR": str(base / "model"), "PYTHONUNBUFFERED": "1"}
    assert container.environment() == own | network | efa
    command = container.command([])
    assert {"--nnodes=3", "--node_rank=2", "--master_addr=algo-1"} <= set(command) and not container.first
    alone = sagemaker_entry.Container(lay_out(tmp_path / "one", {"method": "orpo"}))
    assert alone.environment() == own | {"SM_MODEL_DIR": str(tmp_path / "one" / "model")}, "one host has no network"
    (tmp_path / "one/input/data/train").mkdir()
    assert alone.environment()["SM_CHANNEL_TRAIN"] == str(tmp_path / "one/input/data/train")


def test_the_compile_cache_is_pulled_before_and_pushed_after_also_where_training_fails(tmp_path, monkeypatch, capsys):
    url, own = tmp_path / "shared", tmp_path / "cache"
    add_compiled(tmp_path / "others", 1)
    CompileCache(tmp_path / "others", COMPILER).push(str(url))
    seen = []

    def train(container, token):
        seen.extend(entry.name for entry in CompileCache(own, COMPILER).entries())
        add_compiled(own, 2)
        return 1, "train.py: it failed"

    for name in ("NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(own))
    monkeypatch.setenv("WORKSHOP_CACHE_URL", str(url))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(lay_out(tmp_path / "ml", {"method": "orpo"})))
    monkeypatch.setattr(fingerprint, "current_compiler", lambda: COMPILER)
    monkeypatch.setattr(sagemaker_entry, "train", train)
    assert sagemaker_entry.main() == 1
    assert seen == [graph_name(1)], "there before training"
    said = capsys.readouterr().out
    assert said.index("compile cache, pull: ") < said.index("compile cache, push: ")
    CompileCache(tmp_path / "next", COMPILER).pull(str(url))
    found = {entry.name for entry in CompileCache(tmp_path / "next", COMPILER).entries() if entry.state == "compiled"}
    assert found == {graph_name(1), graph_name(2)}


def test_without_its_compile_cache_a_job_is_slower_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NEURON_CC_FLAGS", "")
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / "cache"))
    monkeypatch.delenv("WORKSHOP_CACHE_URL", raising=False)
    sagemaker_entry.with_cache("pull")
    assert capsys.readouterr().out == "", "none is named"
    monkeypatch.setenv("WORKSHOP_CACHE_URL", str(tmp_path / "file" / "x"))
    (tmp_path / "file").touch()
    sagemaker_entry.with_cache("push")
    assert "compile cache, push: " in capsys.readouterr().out


def test_a_host_that_nobody_knows_is_named():
    with pytest.raises(RuntimeError, match=r"host no-such-host\.invalid is not known after 0 s"):
        sagemaker_entry.wait_for_hosts(["127.0.0.1", "no-such-host.invalid"], patience=0)


def test_pip_gets_the_containers_packages_as_constraints(monkeypatch):
    seen = {}

    def pip(command, **_):
        seen["constraints"] = Path(command[-1]).read_text(encoding="utf-8")
        seen["requirements"] = command[command.index("-r") + 1]

    monkeypatch.setattr(sagemaker_entry.subprocess, "run", pip)
    sagemaker_entry.install("requirements-neuron.txt")
    assert f"torch=={importlib.metadata.version('torch')}\n" in seen["constraints"]
    assert seen["requirements"] == "requirements-neuron.txt"
