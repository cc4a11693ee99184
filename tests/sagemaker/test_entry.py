"""The container's entry point on a re-rooted /opt/ml: one host, two hosts, an interruption, what goes wrong."""

import importlib.metadata
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from scripts import sagemaker_entry
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
    monkeypatch.setattr(sagemaker_entry, "last_checkpoint", lambda _: None)
    monkeypatch.setattr(sagemaker_entry.signal, "signal", lambda *_: None)
    assert sagemaker_entry.train(sagemaker_entry.Container(tmp_path), token="") == (0, "train.py: trained")


def test_the_runtimes_reason_is_told_and_not_torchruns_summary(tmp_path, monkeypatch):
    says = (
        "print('ERROR  NRT:nrt_allocate_neuron_cores  NeuronCore(s) not available - Requested:2 Available:0');"
        "print('torch.distributed.elastic.multiprocessing.errors.ChildFailedError: scripts/train.py FAILED');"
        "print('=' * 60); raise SystemExit(1)"
    )
    monkeypatch.setattr(sagemaker_entry.Container, "command", lambda *_: [sys.executable, "-c", says])
    monkeypatch.setattr(sagemaker_entry, "last_checkpoint", lambda _: None)
    monkeypatch.setattr(sagemaker_entry.signal, "signal", lambda *_: None)
    code, said = sagemaker_entry.train(sagemaker_entry.Container(tmp_path), token="")
    assert code == 1 and "NeuronCore(s) not available" in said


def test_a_run_that_cannot_be_gone_on_from_is_begun_anew(tmp_path):
    container = sagemaker_entry.Container(tmp_path)
    assert container.command("checkpoint-2")[-2:] == ["--resume_from_checkpoint", "checkpoint-2"]
    assert container.command(None)[-2:] == ["--overwrite_output_dir", "True"]


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
