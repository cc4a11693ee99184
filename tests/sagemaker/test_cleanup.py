"""Clean-up: it lists, deletes only what is under its prefix, and only once that is confirmed."""

from dataclasses import replace

import pytest

from helpers.sagemaker import cleanup
from helpers.sagemaker.aws_errors import JobError
from helpers.sagemaker.cleanup import clean_up
from helpers.sagemaker.submission import submit
from tests.sagemaker.test_job import JOB
from tests.sagemaker.test_submission import bucket, keys

__all__ = ["bucket"]  # the fixture

LEFT = ("orpo-1/output/model.tar.gz", "orpo-1/checkpoints/run/results.json", "code/1/code.tar.gz", "data/2/train.jsonl")
OTHERS = ("orpo-10/output/model.tar.gz", "others.txt")


@pytest.fixture
def left(bucket):
    """What two jobs left, and a file of somebody else's."""
    for key in (*LEFT, *OTHERS):
        bucket.put_object(Bucket="class", Key=f"jobs/{key}", Body=b"x" * 1500)
    bucket.put_object(Bucket="class", Key="elsewhere", Body=b"x")
    return bucket


def test_it_lists_with_sizes_and_deletes_nothing(left, capsys):
    before = keys(left)
    assert clean_up(JOB) == {"s3://class/jobs/orpo-1": 3000} and keys(left) == before
    said = capsys.readouterr().out
    assert "would delete: s3://class/jobs/orpo-1/ (2 files, 2.9 KiB)" in said and "confirm=True deletes" in said


def test_once_confirmed_only_what_it_listed_is_gone(left, capsys, monkeypatch):
    monkeypatch.setattr(cleanup, "BATCH", 1)
    clean_up(JOB, confirm=True)
    rest = {f"jobs/{key}" for key in (*LEFT[2:], *OTHERS)} | {"elsewhere"}
    assert set(keys(left)) == rest
    assert "stays in SageMaker's list" in capsys.readouterr().out
    clean_up(JOB, shared=True, confirm=True)
    assert set(keys(left)) == {f"jobs/{key}" for key in OTHERS} | {"elsewhere"}
    assert clean_up(JOB, shared=True, confirm=True) == dict.fromkeys(cleanup.places(JOB, True, False), 0), "again"


def test_the_cache_is_deleted_only_when_named(left):
    left.put_object(Bucket="class", Key="cache/entries/1.json", Body=b"{}")
    job = replace(JOB, cache_url="s3://class/cache")
    clean_up(job, confirm=True)
    assert "cache/entries/1.json" in keys(left)
    clean_up(job, cache=True, confirm=True)
    assert "cache/entries/1.json" not in keys(left)
    with pytest.raises(ValueError, match="has no cache_url"):
        clean_up(JOB, cache=True)


def test_a_whole_bucket_is_never_deleted(left):
    with pytest.raises(ValueError, match=r"s3://class is a whole bucket: give a prefix in it"):
        clean_up(replace(JOB, cache_url="s3://class"), cache=True, confirm=True)


def test_what_a_running_job_needs_stays(bucket):
    from moto.backends import get_backend

    submit(JOB)
    running = get_backend("sagemaker")["123456789012"]["us-east-1"].training_jobs["orpo-1"]
    running.training_job_status = "InProgress"
    before = keys(bucket)
    with pytest.raises(JobError, match="orpo-1 is InProgress: wait until it ends, or stop_job it first"):
        clean_up(JOB, confirm=True)
    other = replace(JOB, name="orpo-2")
    with pytest.raises(JobError, match="orpo-1 is running and uses this code and data"):
        clean_up(other, shared=True, confirm=True)
    assert keys(bucket) == before
    clean_up(other, confirm=True)


def test_what_s3_keeps_and_a_missing_bucket_are_one_line(left, monkeypatch):
    class Refusing:
        def delete_objects(self, **_):
            return {"Errors": [{"Key": "jobs/a", "Code": "AccessDenied"}]}

    with pytest.raises(JobError, match=r"jobs/a was not deleted \(AccessDenied\): allow s3:DeleteObject"):
        cleanup.delete(Refusing(), "s3://class/jobs", ["jobs/a"])
    with pytest.raises(JobError, match="NoSuchBucket") as error:
        clean_up(replace(JOB, output="s3://nowhere/jobs"))
    assert "\n" not in str(error.value)
