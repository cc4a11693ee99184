"""Which account: bad input is one line before anything is made; without an account it is this machine."""

import os
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from helpers.sagemaker import loopback
from helpers.sagemaker.account import Account, open_account
from helpers.sagemaker.aws_errors import JobError
from helpers.training.profiles import get_profile
from tests.sagemaker.test_job import JOB

ROLE, OUTPUT = JOB.role, JOB.output


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        for name, region in (("class", "us-east-1"), ("europe", "eu-west-1")):
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            boto3.client("s3", region_name=region).create_bucket(Bucket=name, **place)
        yield


def test_an_account_is_named_by_role_and_place_and_its_job_is_submitted_as_it_is(aws, tmp_path):
    account = open_account(ROLE, OUTPUT, "us-east-1", tmp_path)
    assert account == Account(ROLE, "us-east-1", OUTPUT) and not account.rehearsed
    assert str(account) == "on AWS, us-east-1: s3://class/jobs"
    assert account.fit(JOB, get_profile("smoke")) is JOB
    account.close()
    assert not boto3.client("s3", region_name="us-east-1").list_objects_v2(Bucket="class")["KeyCount"], (
        "nothing was sent"
    )


@pytest.mark.parametrize(
    ("role", "output", "says"),
    [
        ("workshop", OUTPUT, "role 'workshop' is no ARN of a role: give arn:aws:iam::<account>:role/<name>"),
        ("", OUTPUT, "role '' is no ARN of a role"),
        (ROLE, "", r"output '': give s3://bucket/prefix, for a bucket in us-east-1"),
        (ROLE, "class/jobs", "output 'class/jobs': give s3://bucket/prefix"),
        (ROLE, "s3://nowhere/jobs", "there is no bucket nowhere: create it in us-east-1, or fix its name"),
        (ROLE, "s3://europe/jobs", "bucket europe is in eu-west-1, the jobs in us-east-1: take a bucket in the jobs'"),
        (ROLE.replace("1234", "9999"), OUTPUT, r"another account than your credentials \(…9012\)"),
    ],
)
def test_what_is_wrong_is_one_line(aws, role, output, says):
    with pytest.raises(ValueError, match=says) as error:
        open_account(role, output)
    assert "\n" not in str(error.value)


def test_after_a_rehearsal_boto3_finds_the_users_account_again_once_it_is_named(aws, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("NO_PROXY", "intranet")
    before = os.environ.copy()
    for url in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
        loopback.point_boto3(url, "us-east-1")
    assert "AWS_PROFILE" not in os.environ and os.environ["NO_PROXY"] == "intranet,127.0.0.1"
    Account(ROLE, "us-east-1", OUTPUT, tmp_path).close()
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:2", "a later cell must not reach the user's account"
    with pytest.raises(JobError, match="mine"):
        open_account(ROLE, OUTPUT)
    assert {name: os.environ[name] for name in before} == before and "AWS_ENDPOINT_URL" not in os.environ


def test_without_credentials_it_is_one_line(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(JobError, match="GetCallerIdentity: Unable to locate credentials"):
        open_account(ROLE, OUTPUT)


def test_without_moto_a_rehearsal_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(loopback.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"scripts.install requirements-sagemaker.txt` in a terminal, or name role"):
        open_account(folder=tmp_path / "rehearsal")
    assert not (tmp_path / "rehearsal").exists()


def test_a_rehearsed_job_differs_in_what_it_trains_only(tmp_path):
    rehearsal = Account(ROLE, "us-east-1", OUTPUT, tmp_path)
    small = rehearsal.fit(JOB, get_profile("laptop"))
    assert small.hyperparameters["max_steps"] == 20 and small.hyperparameters["backend"] == "cpu"
    assert (small.name, small.instance_type, small.requirements) == (JOB.name, JOB.instance_type, JOB.requirements)
    small.check()
    with pytest.raises(ValueError, match="instance_count is 2: a rehearsal has one instance"):
        rehearsal.fit(replace(JOB, instance_count=2), get_profile("smoke"))
    sft = rehearsal.fit(replace(JOB, hyperparameters={"method": "sft"}), get_profile("smoke"))
    assert sft.hyperparameters["method"] == "sft" and "beta" not in sft.hyperparameters
