"""Following a job: progress from its log, cost so far, and why it failed."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from moto import mock_aws

from helpers.sagemaker import follow
from helpers.sagemaker.aws_errors import JobError
from helpers.sagemaker.submission import submit
from tests.planted import PLANTED
from tests.sagemaker.test_job import JOB, make_role


def test_progress_is_step_loss_graphs_and_the_time_left():
    progress = follow.Progress({"max_steps": "10"})
    assert str(progress) == "no step yet"
    for at, step in ((100.0, 1), (103.0, 2), (106.0, 3)):
        progress.hear(at, json.dumps({"step": step, "loss": 2.5, "graphs": 7}))
    for line in ("{ cut", '{"event": "ready"}', '{"step": "last", "loss": null}', "{'step': 9}", "\ufffd{[{"):
        progress.hear(107.0, line)
    assert str(progress).startswith("step 3/10, loss 2.500, 7 graphs compiled, ")
    assert follow.clock(21.0) in str(progress), "7 steps of 3 s"


def test_a_record_behind_the_compilers_dots_is_progress():
    progress = follow.Progress()
    progress.hear(1.0, '....{"step": 4, "loss": 2.0}2026-11-26 06:02:18 INFO cached')
    assert str(progress) == "step 4, loss 2.000"


def test_before_the_first_step_the_logs_last_line_is_progress_and_shows_no_credential():
    progress = follow.Progress()
    for line in ("Base model — packaged", f"read with {PLANTED['Hugging Face token']}", "  "):
        progress.hear(1.0, line)
    assert str(progress) == "no step yet, the log says: read with [Hugging Face token]"


def test_where_epochs_are_asked_for_the_steps_follow_from_the_first_record():
    progress = follow.Progress({"num_train_epochs": "2"})
    for at, step in ((10.0, 1), (20.0, 2)):
        progress.hear(at, json.dumps({"step": step, "loss": 1.0, "epoch": step / 8}))
    assert str(progress) == f"step 2/16, loss 1.000, {follow.clock(140.0)} left", "8 steps an epoch, 10 s each"


def test_a_line_is_written_again_until_something_happens(capsys):
    line = follow.Line()
    for happened, passing in (("Starting", ", 0:15"), ("Starting", ", 0:30"), ("step 1", ""), ("step 1", "!")):
        line.show(happened, passing)
    line.end()
    assert capsys.readouterr().out == "\rStarting, 0:15\rStarting, 0:30\n\rstep 1\rstep 1!\n"


def test_the_cost_is_that_of_billed_seconds_else_since_training_started():
    job = {"ResourceConfig": {"InstanceType": "ml.trn1.2xlarge", "InstanceCount": 1}, "BillableTimeInSeconds": 1425}
    assert follow.dollars_so_far(job, None) == pytest.approx(0.61, abs=0.005), "the original workshop's bill"
    assert follow.cost_text(job) == "1425 billable seconds of 1 × ml.trn1.2xlarge at $1.54 an hour: $0.61"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    running = {"ResourceConfig": {"InstanceType": "ml.trn2.48xlarge", "InstanceCount": 2}}
    running["TrainingStartTime"] = now - timedelta(minutes=30)
    assert follow.dollars_so_far(running, None, now) is None
    assert follow.dollars_so_far(running, 10.0, now) == pytest.approx(10.0)
    assert "not billed yet" in follow.cost_text(running) and "give usd_per_hour=" in follow.cost_text(running)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ResourceLimitExceeded: account-level service limit is 0 Instances", "Service Quotas"),
        ("CapacityError: Unable to provision requested ML compute capacity", "no such instance was free"),
        ("ClientError: CannotPullContainer", "check image and region"),
        ("[F137] neuronx-cc was forcibly killed", "the compiler was killed"),
        ("RESOURCE_EXHAUSTED: failed to allocate 2 GB", "memory ran out"),
        ("ClientError: SageMaker could not assume the role arn:aws:iam::1:role/a", "the role can't be assumed: let"),
        ("ClientError: AssumeRole: the trust policy does not allow it", "let sagemaker.amazonaws.com assume it"),
        ("ClientError: AccessDenied (403) for s3://class/jobs", "the role lacks a permission: let it read and write"),
        ("ClientError: role is not authorized to perform: s3:GetObject", "the role lacks a permission"),
        ("ClientError: Data download failed: NoSuchKey (404)", "the data is not where the request says: submit"),
        ("ClientError: No S3 objects found under s3://class/jobs/data", "submit again, which sends it"),
        ("AlgorithmError: exit 1\ntrain.py: row 3, chosen: is empty; fix", "train.py: row 3, chosen: is empty; fix"),
        ("AlgorithmError: secret hub can't be read", "unknown: AlgorithmError"),
        ("", "no reason was given"),
    ],
)
def test_why_a_job_failed_is_one_line(text, says):
    assert says in follow.reason_of(text) and "\n" not in follow.reason_of(text)


def test_a_job_is_followed_by_name_and_a_failed_one_says_why(monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        with pytest.raises(JobError, match="there is no such job in us-east-1"):
            follow.follow_job("orpo-1", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="class")
        make_role()
        submit(JOB)
        logs, now = boto3.client("logs"), int(datetime.now(UTC).timestamp() * 1000)
        if not logs.describe_log_groups(logGroupNamePrefix=follow.LOGS)["logGroups"]:
            logs.create_log_group(logGroupName=follow.LOGS)
        logs.create_log_stream(logGroupName=follow.LOGS, logStreamName="orpo-1/algo-1-1")
        line = json.dumps({"step": 4, "loss": 1.25})
        logs.put_log_events(
            logGroupName=follow.LOGS, logStreamName="orpo-1/algo-1-1", logEvents=[{"timestamp": now, "message": line}]
        )
        assert follow.follow_job("orpo-1", "us-east-1")["TrainingJobStatus"] == "Completed"
        assert "step 4/100, loss 1.250" in capsys.readouterr().out
        real = follow.find
        stopped = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}
        monkeypatch.setattr(follow, "find", lambda *asked: real(*asked) | stopped)
        assert follow.follow_job("orpo-1", "us-east-1")["TrainingJobStatus"] == "Stopped"
        assert "orpo-1 was stopped at its max_runtime: no model is saved" in capsys.readouterr().out
        failed = {"TrainingJobStatus": "Failed", "FailureReason": "CapacityError"}
        monkeypatch.setattr(follow, "find", lambda *asked: real(*asked) | failed)
        with pytest.raises(JobError, match="orpo-1 failed: no such instance was free"):
            follow.follow_job("orpo-1", "us-east-1")
