"""A job from submission to its results through the service on this machine: real boto3, a real training."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from peft import PeftModel

from helpers.data import load_preferences
from helpers.evaluation import evaluate, heldout_batches
from helpers.files import REPOSITORY, read_json
from helpers.runs import Run
from helpers.sagemaker import loopback
from helpers.sagemaker.account import REHEARSED, open_account
from helpers.sagemaker.aws_errors import JobError, client
from helpers.sagemaker.cleanup import clean_up
from helpers.sagemaker.follow import cost_text, events, follow_job
from helpers.sagemaker.job import TrainingJob, request_of
from helpers.sagemaker.package import fetch_results, send_once
from helpers.sagemaker.saved_model import checked_model, trained_models
from helpers.sagemaker.submission import stop_job, submit
from helpers.show import LiveMonitor, speakers_of, write_report
from helpers.techniques import Comparison
from helpers.training import find_stage, load_base, load_trained, train_stage
from helpers.training.base_model import load_model
from helpers.training.profiles import get_profile
from helpers.training.recipe import stage_settings

pytestmark = pytest.mark.slow
TRAINIUM = {"method": "orpo", "model": "Qwen/Qwen3-0.6B", "tensor_parallel_size": 2, "lora_rank": 16}
FOLLOW = """
import sys
from pathlib import Path
from helpers.sagemaker import follow_job, open_account
account = open_account(folder=Path(sys.argv[1]))
follow_job("orpo-1", account.region, every=account.every)
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A rehearsal's account, where keys of somebody's are in the environment; they are back at the end."""
    before = os.environ.copy()
    os.environ |= {"AWS_PROFILE": "somebody", "AWS_ENDPOINT_URL_S3": "https://s3.example.invalid"}
    opened = open_account(folder=tmp_path_factory.mktemp("rehearsal"))
    yield opened
    opened.close()
    os.environ.clear()
    os.environ.update(before)


def job_of(account, name: str) -> TrainingJob:
    job = TrainingJob(name, account.role, account.region, account.output, TRAINIUM)
    return account.fit(job, get_profile("smoke"))


def request(account, job: TrainingJob, command: str) -> dict:
    """A job's request that runs another command: nothing is trained."""
    made = request_of(job, send_once(account.output, "code", "code.tar.gz", b"any"), None)
    made["AlgorithmSpecification"]["ContainerArguments"] = [command]
    return made


def run(account, name: str, command: str, **changes) -> None:
    client("sagemaker", account.region).create_training_job(
        **request(account, job_of(account, name), command) | changes
    )


@pytest.fixture(scope="module")
def trained(account):
    """One job, submitted twice, and followed by a kernel that is killed in the middle."""
    job = job_of(account, "orpo-1")
    assert submit(job) == submit(job)
    command = [sys.executable, "-c", FOLLOW, str(account.folder)]
    kernel = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    for line in kernel.stdout:
        if "Training" in line:
            kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    return job


def test_after_a_kernel_was_killed_the_job_is_followed_by_name(account, trained, capsys):
    assert str(open_account(folder=account.folder)) == str(account) == REHEARSED
    described = follow_job("orpo-1", account.region, every=0.5)
    said = capsys.readouterr().out
    assert "step 4/4, loss " in said and "so far" in said and "Completed" in said
    assert described["TrainingJobStatus"] == "Completed" and described["Environment"]["WORKSHOP_PROCESSES"] == "2"
    assert cost_text(described).startswith(f"{described['BillableTimeInSeconds']} billable seconds of 1 × ml.trn1")


def test_its_log_is_in_cloudwatch_and_its_results_are_a_run_folder(account, trained, tmp_path):
    follow_job("orpo-1", account.region, every=0.5)
    lines = [line for _, line in events(client("logs", account.region), "orpo-1", {})]
    assert any("32 pairs" in line for line in lines), lines
    folder = fetch_results(trained.output, "orpo-1", "orpo", tmp_path / "fetched")
    stage = Run(folder, get_profile("smoke")).stage("orpo")
    assert [record["step"] for record in stage.read_log()] == [1, 2, 3, 4]
    assert read_json(folder / "results.json")["methods"]["orpo"]["steps"] == 4
    assert (stage.model_path / "adapter_model.safetensors").is_file()


def test_what_the_job_made_is_read_as_a_notebooks_own(account, trained, tmp_path, monkeypatch, capsys):
    """By the functions that notebooks 04, 07 and 09, the report and the chat call."""
    follow_job("orpo-1", account.region, every=0.5)
    profile = get_profile("smoke")
    run = Run(fetch_results(trained.output, "orpo-1", "orpo", tmp_path / "fetched"), profile)
    settings = read_json(run.stage("orpo").path / "settings.json")
    monkeypatch.setenv("WORKSHOP_PRECISION", "bf16" if settings["bf16"] else "float32")
    assert settings == stage_settings(profile, run, "orpo")
    stage = find_stage(run, profile, "orpo")
    assert stage.name == "orpo" and stage.trained and stage.training["train_seconds"] > 0
    assert stage.training["pairs"] == 16 and stage.training["train_tokens_per_second"] > 0

    base, tokenizer = load_base(profile)
    heldout = load_preferences(split="heldout", limit=8)
    batches = heldout_batches(heldout, base, tokenizer, profile.max_length)
    untouched = SimpleNamespace(model=base, args=SimpleNamespace())
    train_stage(untouched, stage, LiveMonitor(batches, stage, profile.monitor_every))
    assert "orpo is trained already (4 steps): nothing to do" in capsys.readouterr().out
    first, last = stage.read_monitor()
    assert (first["step"], last["step"]) == (0, 4) and last["chosen_logp"] > first["chosen_logp"]

    row = batches[0]["input_ids"][:1]
    theirs = PeftModel.from_pretrained(load_base(profile)[0], stage.model_path)
    model = load_trained(stage)
    with torch.no_grad():
        torch.testing.assert_close(model(row).logits, theirs(row).logits, atol=1e-4, rtol=1e-4)
        assert (model(row).logits - base(row).logits).abs().max() > 1e-3, "the adapter is in it"
    assert speakers_of(run, {"ORPO": "orpo"}).model("ORPO").config.hidden_size == 64
    result = evaluate(run, "orpo", model, tokenizer, heldout, profile)
    assert result["settings"] == settings and result["steps"] == 4 and run.require("orpo") == result
    assert Comparison(run, profile).results() == {}, "notebook 07 trains stages of its own in it"
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "Held out" in page and "learning rate" in page

    shutil.copytree(stage.path, run.stage("sft").path)  # as another job would leave it
    folders = trained_models(run, profile)
    assert list(folders) == ["base", "sft", "orpo"]
    assert all(checked_model(folder, folders["base"]) for folder in folders.values())
    with torch.no_grad():
        torch.testing.assert_close(load_model(str(folders["orpo"]))(row).logits, model(row).logits)


def test_a_job_on_own_pairs_is_read_by_the_notebooks_as_trained_on_them(account, tmp_path, monkeypatch):
    file, profile = tmp_path / "mine.jsonl", get_profile("smoke")
    rows = [{"prompt": f"What does call {i} do?", "chosen": f"It lists {i}.", "rejected": "No."} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = replace(job_of(account, "orpo-own"), data=file)
    submit(job)
    follow_job(job.name, account.region, every=0.5)
    run = Run(fetch_results(job.output, job.name, "orpo", tmp_path / "fetched", data=file), profile)
    settings = read_json(run.stage("orpo").path / "settings.json")
    monkeypatch.setenv("WORKSHOP_PRECISION", "bf16" if settings["bf16"] else "float32")
    assert run.source == str(file) and settings == stage_settings(profile, run, "orpo")
    assert find_stage(run, profile, "orpo").trained, "notebook 04 goes on with it"
    heldout = load_preferences(run.source, "heldout", split_by="prompt")
    base, tokenizer = load_base(profile)
    assert evaluate(run, "orpo", base, tokenizer, heldout, profile)["n"] == len(heldout) > 0
    assert "mine.jsonl" in write_report(run.path).read_text(encoding="utf-8")


def test_a_fetched_run_has_a_report_before_anything_is_measured(account, trained, tmp_path):
    follow_job("orpo-1", account.region, every=0.5)
    folder = fetch_results(trained.output, "orpo-1", "orpo", tmp_path / "fetched")
    assert "Held out" not in write_report(folder).read_text(encoding="utf-8")


def test_clean_up_takes_the_jobs_results_and_leaves_another_jobs(account, trained, capsys):
    follow_job("orpo-1", account.region, every=0.5)
    store = client("s3", account.region)
    store.put_object(Bucket="rehearsal", Key="jobs/orpo-10/output/model.tar.gz", Body=b"x")
    (size,) = clean_up(trained).values()
    assert size > 100_000
    clean_up(trained, confirm=True)
    left = [each["Key"] for each in store.list_objects_v2(Bucket="rehearsal")["Contents"]]
    assert "jobs/orpo-10/output/model.tar.gz" in left and not [key for key in left if key.startswith("jobs/orpo-1/")]


def test_a_job_that_fails_says_why_in_one_line(account):
    job = job_of(account, "orpo-fails")
    submit(replace(job, hyperparameters=job.hyperparameters | {"model": "nobody/has-this"}))
    with pytest.raises(JobError) as error:
        follow_job(job.name, account.region, every=0.5)
    assert "orpo-fails failed: train.py: " in str(error.value) and "nobody/has-this" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_job_whose_code_is_missing_fails_as_on_sagemaker(account):
    made = request_of(job_of(account, "orpo-no-code"), f"{account.output}/code/nothing", None)
    client("sagemaker", account.region).create_training_job(**made)
    with pytest.raises(JobError, match="the data is not where the request says: submit again"):
        follow_job("orpo-no-code", account.region, every=0.2)


def test_after_a_spot_interruption_the_same_job_goes_on_from_its_checkpoint(account):
    job = job_of(account, "orpo-spot")
    longer = job.hyperparameters | {"max_steps": 150, "save_steps": 10}
    submit(replace(job, hyperparameters=longer, spot=True, max_wait=7200))
    logs, place, began = client("logs", account.region), {}, time.monotonic()
    while not any('"step": 25,' in line for _, line in events(logs, job.name, place)):
        assert time.monotonic() - began < 120, "no step 25"
        time.sleep(0.1)
    kill_instance(account.folder / "orpo-spot" / "ml" / "code")
    assert follow_job(job.name, account.region, every=0.5)["TrainingJobStatus"] == "Completed"
    said = [line for _, line in events(logs, job.name, {})]
    (resumed,) = [line for line in said if line.startswith("Resuming from checkpoint-")]
    steps = [json.loads(line)["step"] for line in said[said.index(resumed) :] if line.startswith('{"')]
    first = int(re.search(r"checkpoint-(\d+)", resumed)[1]) + 1
    assert first > 20 and steps == list(range(first, 151))


def kill_instance(code: Path) -> None:
    """What the end of a spot instance is to its processes; the first of them leads their group."""
    (leader,) = (
        each.info["pid"]
        for each in psutil.process_iter(["pid", "cmdline", "cwd"])
        if each.info["cwd"] == str(code) and "scripts.sagemaker_entry" in (each.info["cmdline"] or ())
    )
    os.killpg(leader, signal.SIGKILL)


def test_a_fault_of_the_rehearsal_itself_ends_the_job_too(account):
    made = request(account, job_of(account, "orpo-odd"), "true")
    del made["CheckpointConfig"]
    client("sagemaker", account.region).create_training_job(**made)
    with pytest.raises(JobError, match=r"orpo-odd failed: unknown: InternalServerError: see service.log"):
        follow_job("orpo-odd", account.region, every=0.2)


def test_a_name_is_used_once_a_job_can_be_stopped_and_clean_up_waits_for_it(account):
    run(account, "orpo-sleeps", "echo asleep; exec sleep 60")
    with pytest.raises(Exception, match="ResourceInUse"):
        run(account, "orpo-sleeps", "true")
    wait_for_log(account, "orpo-sleeps")
    with pytest.raises(JobError, match="orpo-sleeps is InProgress"):
        clean_up(job_of(account, "orpo-sleeps"), confirm=True)
    stop_job("orpo-sleeps", account.region)
    assert follow_job("orpo-sleeps", account.region, every=0.2)["TrainingJobStatus"] == "Stopped"
    with pytest.raises(JobError, match="StopTrainingJob orpo-sleeps"):
        stop_job("orpo-sleeps", account.region)


def test_a_job_goes_on_from_the_checkpoints_of_one_that_ended_too_early(account):
    run(account, "orpo-cut", "echo step 3 > /opt/ml/checkpoints/kept; exit 1")
    with pytest.raises(JobError, match="orpo-cut failed"):
        follow_job("orpo-cut", account.region, every=0.2)
    later = replace(job_of(account, "orpo-later"), go_on_from="orpo-cut")
    made = request(account, later, "grep 'step 3' /opt/ml/checkpoints/kept")
    client("sagemaker", account.region).create_training_job(**made)
    assert follow_job(later.name, account.region, every=0.2)["TrainingJobStatus"] == "Completed"


def test_a_job_ends_at_its_maximum_runtime(account):
    run(account, "orpo-long", "exec sleep 60", StoppingCondition={"MaxRuntimeInSeconds": 1})
    described = follow_job("orpo-long", account.region, every=0.2)
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_boto3_reads_no_key_of_the_user(account):
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:") and "AWS_PROFILE" not in os.environ
    assert "AWS_ENDPOINT_URL_S3" not in os.environ


def test_when_the_service_ends_its_job_ends_too(tmp_path):
    before = os.environ.copy()
    try:
        opened = open_account(region="eu-west-1", folder=tmp_path / "own")
        run(opened, "orpo-left", f"echo up; touch {tmp_path}/up; sleep 3; touch {tmp_path}/down")
        wait_for_log(opened, "orpo-left")
        opened.close()
        time.sleep(4)
        assert (tmp_path / "up").exists() and not (tmp_path / "down").exists()
        assert loopback.address(tmp_path / "own") is None
    finally:
        os.environ.clear()
        os.environ.update(before)


def wait_for_log(account, name: str) -> None:
    """Return once the job has written a line."""
    logs, ends = client("logs", account.region), time.monotonic() + 30
    while time.monotonic() < ends:
        if list(events(logs, name, {})):
            return
        time.sleep(0.1)
    pytest.fail(f"{name} wrote no line")
