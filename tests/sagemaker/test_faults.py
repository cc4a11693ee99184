"""A job's whole way while AWS throttles, fails, or stops knowing the credentials: real boto3 on loopback."""

import json
import socket
import time
import urllib.request

import boto3
import pytest

from helpers.sagemaker import follow
from helpers.sagemaker.account import open_account
from helpers.sagemaker.aws_errors import JobError
from helpers.sagemaker.package import fetch_results
from helpers.sagemaker.submission import submit
from tests.sagemaker.faults import FailingAws
from tests.sagemaker.test_job import JOB, make_role
from tests.sagemaker.test_submission import archive

RETRIES = 4  # that boto3 makes of a call, after which it is ours to tell


@pytest.fixture(scope="module")
def service():
    aws = FailingAws()
    yield aws
    aws.stop()


@pytest.fixture
def aws(service, monkeypatch):
    """AWS with an empty account and a bucket; boto3 does not wait between its attempts."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    urllib.request.urlopen(urllib.request.Request(f"{service.url}/moto-api/reset", method="POST")).read()
    service.orders.clear()
    service.asked.clear()
    boto3.client("s3").create_bucket(Bucket="class")
    make_role()
    service.asked.clear()
    return service


def jobs() -> list[str]:
    return [job["TrainingJobName"] for job in boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]]


def write_log(*lines: str, stream: str = "orpo-1/algo-1-1") -> None:
    logs, now = boto3.client("logs"), int(time.time() * 1000)
    if not logs.describe_log_groups(logGroupNamePrefix=follow.LOGS)["logGroups"]:
        logs.create_log_group(logGroupName=follow.LOGS)
    if not logs.describe_log_streams(logGroupName=follow.LOGS, logStreamNamePrefix=stream)["logStreams"]:
        logs.create_log_stream(logGroupName=follow.LOGS, logStreamName=stream)
    events = [{"timestamp": now, "message": line} for line in lines]
    logs.put_log_events(logGroupName=follow.LOGS, logStreamName=stream, logEvents=events)


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        ("DescribeTrainingJob", 400, "ThrottlingException"),
        ("CreateTrainingJob", 400, "ThrottlingException"),
        ("CreateTrainingJob", 500, "InternalFailure"),
        ("CreateTrainingJob", 503, "ServiceUnavailable"),
        ("PUT", 503, "SlowDown"),
        ("PUT", 500, "InternalError"),
        ("GET", 503, "SlowDown"),
    ],
)
def test_what_passes_is_waited_for_and_the_job_starts_once(aws, action, status, code):
    aws.fail(action, RETRIES - 1, status, code)
    submit(JOB)
    assert aws.asked[action] >= RETRIES and jobs() == ["orpo-1"]


@pytest.mark.parametrize(
    ("action", "status", "code", "says"),
    [
        ("DescribeTrainingJob", 400, "ThrottlingException", "wait a minute"),
        ("CreateTrainingJob", 500, "InternalFailure", "try again later"),
        ("PUT", 503, "SlowDown", "try again later"),
        ("CreateTrainingJob", 400, "ExpiredTokenException", "renew them"),
        ("PUT", 400, "ExpiredToken", "renew them"),
        ("CreateTrainingJob", 400, "ResourceLimitExceeded", "Service Quotas"),
        ("CreateTrainingJob", 400, "AccessDeniedException", "iam:PassRole"),
        ("PUT", 403, "AccessDenied", "your own role needs s3:PutObject"),
    ],
)
def test_what_stays_is_one_line_nothing_starts_and_once_it_is_over_the_same_call_works(aws, action, status, code, says):
    aws.fail(action, 100, status, code)
    with pytest.raises(JobError, match=says) as error:
        submit(JOB)
    assert "\n" not in str(error.value) and jobs() == []
    aws.orders.clear()
    submit(JOB)
    assert jobs() == ["orpo-1"]


@pytest.mark.parametrize("action", ["DescribeTrainingJob", "GetLogEvents", "DescribeLogStreams"])
@pytest.mark.parametrize(
    ("status", "code", "says"),
    [(400, "ExpiredTokenException", "renew them"), (500, "InternalFailure", "try again later")],
)
def test_in_the_middle_of_a_job_it_is_one_line_and_following_again_shows_all(aws, capsys, action, status, code, says):
    submit(JOB)
    write_log(json.dumps({"step": 4, "loss": 1.25}))
    aws.fail(action, 100, status, code)
    with pytest.raises(JobError, match=says) as error:
        follow.follow_job("orpo-1", "us-east-1", every=0)
    assert "\n" not in str(error.value)
    aws.orders.clear()
    assert follow.follow_job("orpo-1", "us-east-1", every=0)["TrainingJobStatus"] == "Completed"
    assert "step 4/100, loss 1.250" in capsys.readouterr().out


def test_following_outlives_what_passes(aws, capsys):
    submit(JOB)
    write_log(json.dumps({"step": 4, "loss": 1.25}))
    aws.fail("DescribeTrainingJob", RETRIES - 1, 400, "ThrottlingException")
    aws.fail("GetLogEvents", RETRIES - 1, 500, "InternalFailure")
    assert follow.follow_job("orpo-1", "us-east-1", every=0)["TrainingJobStatus"] == "Completed"
    assert "step 4/100, loss 1.250" in capsys.readouterr().out


def test_the_steps_of_several_instances_are_one_progress(aws, capsys):
    submit(JOB)
    write_log(json.dumps({"step": 4, "loss": 1.25}))
    write_log("joined the group", stream="orpo-1/algo-2-1")
    write_log(json.dumps({"step": 5, "loss": 1.125}))
    follow.follow_job("orpo-1", "us-east-1", every=0)
    assert "step 5/100, loss 1.125" in capsys.readouterr().out


def test_results_that_do_not_come_leave_no_folder_and_come_when_they_can(aws, tmp_path):
    for name in ("output", "model"):
        body = archive(**{f"{name}.json": "{}"})
        boto3.client("s3").put_object(Bucket="class", Key=f"jobs/orpo-1/output/{name}.tar.gz", Body=body)
    aws.fail("GET", 100, 500, "InternalError", after=1)
    with pytest.raises(JobError, match="try again later") as error:
        fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run")
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
    aws.orders.clear()
    assert (fetch_results(JOB.output, "orpo-1", "orpo", tmp_path / "run") / "output.json").is_file()


def test_a_bucket_in_another_region_is_named_before_a_job_is_made(aws):
    place = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3", region_name="eu-west-1").create_bucket(Bucket="far", CreateBucketConfiguration=place)
    with pytest.raises(ValueError, match="bucket far is in eu-west-1, the jobs in us-east-1: take a bucket in"):
        open_account("arn:aws:iam::123456789012:role/workshop", "s3://far/jobs")


def test_without_a_network_it_is_one_line(aws, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for call in (lambda: submit(JOB), lambda: follow.follow_job("orpo-1", "us-east-1")):
            with pytest.raises(JobError, match="check the network") as error:
                call()
            assert "\n" not in str(error.value)
