"""Submit and fetch against moto: real boto3, real validation, nothing leaves the process."""

import io
import json
import tarfile
from dataclasses import replace

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from helpers.runs import Run
from helpers.sagemaker import package, role_check, submission
from helpers.sagemaker.aws_errors import JobError, told
from helpers.sagemaker.role import trust_policy
from helpers.sagemaker.submission import dry_run, job_name, submit
from helpers.training.profiles import get_profile
from scripts import sagemaker_entry
from tests.sagemaker.test_job import JOB, make_role

PAIR = {"prompt": "What does ListQueues do?", "chosen": "It lists queues.", "rejected": "It deletes a topic."}


@pytest.fixture
def bucket(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        store = boto3.client("s3")
        store.create_bucket(Bucket="class")
        make_role()
        yield store


def keys(store) -> list[str]:
    return [each["Key"] for each in store.list_objects_v2(Bucket="class").get("Contents", ())]


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            packed.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_dry_run_shows_request_and_cost_and_sends_nothing(bucket, capsys):
    assert dry_run(JOB)["TrainingJobName"] == "orpo-1"
    assert "costs at most $1.54" in capsys.readouterr().out and keys(bucket) == []


def test_a_job_is_submitted_once_and_what_is_unchanged_is_sent_once(bucket, tmp_path, capsys):
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps(PAIR) + "\n")
    job = replace(JOB, data=data, split_by=None, requirements="data/README.md")
    arn = submit(job)
    sent = keys(bucket)
    assert len(sent) == 2 and submit(job) == arn
    assert capsys.readouterr().out.strip().endswith("exists already, it is Completed: nothing was started")
    submit(replace(job, hyperparameters=job.hyperparameters | {"beta": 0.5, "max_steps": 50}))
    assert "its hyperparameters are others (beta, max_steps): take another name" in capsys.readouterr().out
    submit(replace(job, name="orpo-2"))
    assert keys(bucket) == sent and "unchanged, already at" in capsys.readouterr().out
    described = boto3.client("sagemaker").describe_training_job(TrainingJobName="orpo-1")
    assert described["AlgorithmSpecification"]["ContainerEntrypoint"] == ["bash", "-c"]
    code = bucket.get_object(Bucket="class", Key=next(key for key in sent if "code" in key))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(code)) as packed:
        needed = {"scripts/sagemaker_entry.py", "scripts/train.py", "pyproject.toml", "data/house-style.parquet"}
        needed |= {"data/README.md"}
        assert needed <= set(packed.getnames())


@pytest.mark.parametrize(
    ("state", "method", "says"),
    [
        (None, "orpo", "there is no such job in us-east-1; check the name"),
        ("InProgress", "orpo", "it is InProgress: wait until it ends, or stop_job it first"),
        ("Completed", "orpo", "it is Completed: fetch its results"),
        ("Stopped", "sft", "it trains sft: give a job of the same method"),
    ],
)
def test_only_a_job_that_ended_too_early_is_gone_on_from(bucket, monkeypatch, state, method, says):
    described = state and {"TrainingJobStatus": state, "HyperParameters": {"method": method}}
    monkeypatch.setattr(submission, "find", lambda _, name: described if name == "orpo-0" else None)
    with pytest.raises(JobError, match=f"go_on_from orpo-0: {says}"):
        submit(replace(JOB, go_on_from="orpo-0"))
    assert keys(bucket) == []


def test_a_name_made_of_any_words_is_one_that_sagemaker_takes():
    name = job_name("orpo", "a run_of.mine " * 6)
    assert name.startswith("orpo-a-run-of-mine-a") and len(name) <= 63
    replace(JOB, name=name).check()


def test_a_refused_job_sends_nothing(bucket):
    with pytest.raises(ValueError, match="does not divide"):
        submit(replace(JOB, hyperparameters={"method": "orpo", "tensor_parallel_size": 3}))
    assert keys(bucket) == []


def test_a_bucket_that_is_not_there_is_one_line(bucket):
    with pytest.raises(ValueError, match="there is no bucket elsewhere: create it in us-east-1, or fix its name"):
        submit(replace(JOB, output="s3://elsewhere/jobs"))


def test_a_bucket_in_another_region_is_told_before_anything_is_sent(bucket):
    there = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3", region_name="eu-west-1").create_bucket(Bucket="far", CreateBucketConfiguration=there)
    with pytest.raises(ValueError, match="bucket far is in eu-west-1, the jobs in us-east-1: take a bucket in"):
        submit(replace(JOB, output="s3://far/jobs"))
    assert "Contents" not in bucket.list_objects_v2(Bucket="far")


@pytest.mark.parametrize(
    ("role", "says"),
    [
        (JOB.role.replace("workshop", "nobody"), "there is no role nobody: how_to_create"),
        (
            JOB.role.replace("role/", "role/path/"),
            "role workshop is arn:aws:iam::123456789012:role/workshop: give that",
        ),
        (JOB.role.replace("workshop", "ec2"), r"role ec2 can't be assumed by sagemaker.amazonaws.com: give it trust_"),
        (JOB.role.replace("1234", "9999"), "another account than your credentials"),
    ],
)
def test_a_role_that_sagemaker_cannot_take_on_is_told_before_anything_is_sent(bucket, role, says):
    ec2 = json.dumps(trust_policy(JOB)).replace("sagemaker.amazonaws.com", "ec2.amazonaws.com")
    boto3.client("iam").create_role(RoleName="ec2", AssumeRolePolicyDocument=ec2)
    with pytest.raises((JobError, ValueError), match=says) as error:
        submit(replace(JOB, role=role))
    assert keys(bucket) == [] and "\n" not in str(error.value)


def test_who_may_not_look_at_the_role_is_told_so_and_goes_on(bucket, monkeypatch, capsys):
    real, iam = role_check.client, boto3.client("iam")
    stub = Stubber(iam)
    stub.add_client_error("get_role", "AccessDenied")
    stub.activate()
    monkeypatch.setattr(role_check, "client", lambda name, region: iam if name == "iam" else real(name, region))
    submit(JOB)
    assert "role workshop is not looked at, your own role lacks iam:GetRole" in capsys.readouterr().out
    stub.assert_no_pending_responses()


def test_a_trust_policy_may_be_written_with_or_without_lists():
    one = {"Effect": "Allow", "Principal": {"Service": ["sagemaker.amazonaws.com", "a"]}, "Action": ["sts:AssumeRole"]}
    assert role_check.trusted({"Statement": one}) == {"sagemaker.amazonaws.com", "a"}
    assert role_check.trusted({"Statement": [one | {"Effect": "Deny"}]}) == set()
    assert role_check.trusted({"Statement": [one | {"Action": "sts:TagSession"}, one | {"Principal": "*"}]}) == set()


def test_the_results_become_a_run_folder(bucket, tmp_path):
    with pytest.raises(JobError, match=r"output.tar.gz of orpo-1: .*did the job complete\?"):
        package.fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    place = "jobs/orpo-1/output/"
    bucket.put_object(Bucket="class", Key=place + "output.tar.gz", Body=archive(**{"results.json": "{}"}))
    bucket.put_object(Bucket="class", Key=place + "model.tar.gz", Body=archive(**{"config.json": "{}"}))
    run = package.fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run")
    assert (run / "results.json").is_file() and (run / "orpo" / "model" / "config.json").is_file()


def test_the_results_of_another_job_join_a_run_folder_that_is_there(bucket, tmp_path):
    for name, method in (("one", "orpo"), ("two", "sft")):
        results = json.dumps({"profile": "neuron", "seed": 0, "methods": {method: {"steps": len(name)}}})
        kept = archive(**{"results.json": results, f"{method}/training.json": "{}"})
        bucket.put_object(Bucket="class", Key=f"jobs/{name}/output/output.tar.gz", Body=kept)
        model = archive(**{"config.json": "{}"})
        bucket.put_object(Bucket="class", Key=f"jobs/{name}/output/model.tar.gz", Body=model)
        package.fetch_results(JOB.output, name, method, tmp_path / "run")
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())["methods"]) == {"orpo", "sft"}
    for method in ("orpo", "sft"):
        assert (tmp_path / "run" / method / "model" / "config.json").is_file()
        assert (tmp_path / "run" / method / "training.json").is_file()
    with pytest.raises(ValueError, match="run is there already: name another folder"):
        package.fetch_results(JOB.output, "two", "sft", tmp_path / "run")
    assert not list((tmp_path / "run").glob(".fetching-*"))


OWN = {"methods": {"orpo": {"steps": 4, "settings": {"source": "/opt/ml/input/data/train", "beta": 0.1}}}}


def test_a_fetched_run_names_the_pairs_of_its_job_as_they_are_here(bucket, tmp_path, capsys):
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps(PAIR) + "\n")
    settings = json.dumps(OWN["methods"]["orpo"]["settings"])
    kept = archive(**{"results.json": json.dumps(OWN), "orpo/settings.json": settings})
    for name, body in (("output", kept), ("model", archive(**{"config.json": "{}"}))):
        bucket.put_object(Bucket="class", Key=f"jobs/orpo-1/output/{name}.tar.gz", Body=body)
    run = Run(package.fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run", data=data), get_profile("smoke"))
    assert run.source == str(data) and run.stage("orpo").differences({"source": run.source, "beta": 0.1}) == {}
    assert run.require("orpo")["settings"]["source"] == str(data)
    capsys.readouterr()
    unsaid = package.fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "unsaid")
    assert "trained on pairs of your own: give data= again" in capsys.readouterr().out
    assert Run(unsaid, get_profile("smoke")).source == "house-style"


def test_data_of_another_job_is_refused(bucket, tmp_path):
    kept = archive(**{"results.json": "{}", "orpo/settings.json": json.dumps({"source": "house-style"})})
    for name, body in (("output", kept), ("model", archive(**{"config.json": "{}"}))):
        bucket.put_object(Bucket="class", Key=f"jobs/orpo-1/output/{name}.tar.gz", Body=body)
    with pytest.raises(ValueError, match="but the job trained on house-style: leave it out"):
        package.fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run", data="mine.jsonl")
    assert not (tmp_path / "run").exists()


def test_without_git_the_code_is_sent_all_the_same(tmp_path, monkeypatch):
    for name in ("helpers/a.py", "helpers/__pycache__/a.pyc", "scripts/b.py", "data/c.parquet", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert sorted(package.code_files(tmp_path)) == ["data/c.parquet", "helpers/a.py", "scripts/b.py"]
    monkeypatch.setenv("PATH", "")
    assert sorted(package.code_files(tmp_path)) == ["data/c.parquet", "helpers/a.py", "scripts/b.py"]


def test_the_job_reads_its_token_from_secrets_manager(bucket):
    boto3.client("secretsmanager").create_secret(Name="hub", SecretString="a token\n")
    assert sagemaker_entry.read_token("hub") == "a token" and sagemaker_entry.read_token(None) == ""
    with pytest.raises(RuntimeError, match=r"secret nowhere can't be read \(ResourceNotFoundException\): create it"):
        sagemaker_entry.read_token("nowhere")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ResourceLimitExceeded", "ask for more in Service Quotas"),
        ("ExpiredTokenException", "renew them"),
        ("ThrottlingException", "wait a minute"),
        ("AccessDeniedException", "iam:PassRole"),
        ("UnrecognizedClientException", "aws configure"),
        ("RequestTimeTooSkewed", "clock is wrong"),
    ],
)
def test_what_aws_answers_is_one_line_with_the_fix(code, says):
    from botocore.exceptions import ClientError

    with pytest.raises(JobError, match=says) as error, told("CreateTrainingJob a"):
        raise ClientError({"Error": {"Code": code, "Message": "x\ny"}}, "CreateTrainingJob")
    assert "\n" not in str(error.value)


def test_a_wrong_profile_is_one_line_with_the_fix(monkeypatch):
    from helpers.sagemaker.aws_errors import client

    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    with pytest.raises(JobError, match=r"sagemaker in us-east-1: .*nosuch.*: set AWS_PROFILE to one that"):
        client("sagemaker", "us-east-1")
