"""Clean-up: it lists, deletes only what is under its prefix, and only once that is confirmed."""

from dataclasses import replace

import boto3
import pytest

from helpers.sagemaker import cleanup
from helpers.sagemaker.aws_errors import JobError
from helpers.sagemaker.cleanup import clean_up, clean_up_tagged
from helpers.sagemaker.job import PROJECT_TAG
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


def serve(name: str, tags: list[dict]) -> None:
    """A model behind an endpoint, in moto."""
    service = boto3.client("sagemaker", region_name=JOB.region)
    image = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"}
    service.create_model(ModelName=name, ExecutionRoleArn=JOB.role, PrimaryContainer=image, Tags=tags)
    variant = {"VariantName": "all", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    service.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    service.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)


def serving() -> set[str]:
    service = boto3.client("sagemaker", region_name=JOB.region)
    return {
        *(f"Endpoint {each['EndpointName']}" for each in service.list_endpoints()["Endpoints"]),
        *(
            f"EndpointConfig {each['EndpointConfigName']}"
            for each in service.list_endpoint_configs()["EndpointConfigs"]
        ),
        *(f"Model {each['ModelName']}" for each in service.list_models()["Models"]),
    }


def test_what_has_the_tag_is_listed_with_sizes_and_deleted_once_confirmed(left, capsys):
    submit(JOB)
    serve("ours", [PROJECT_TAG])
    serve("theirs", [{"Key": "project", "Value": "something else"}])
    before = keys(left), serving()
    listed = clean_up_tagged(JOB.region)
    ours = {"Endpoint ours", "EndpointConfig ours", "Model ours"}
    assert set(listed) == {*ours, "s3://class/jobs/orpo-1/"} and listed["Model ours"] is None
    assert listed["s3://class/jobs/orpo-1/"] == sum(
        each["Size"] for each in left.list_objects_v2(Bucket="class", Prefix="jobs/orpo-1/")["Contents"]
    )
    assert (keys(left), serving()) == before
    said = capsys.readouterr().out
    assert "would delete: Endpoint ours\n" in said and "orpo-1/ (2.9 KiB)" in said and "confirm=True deletes" in said
    assert clean_up_tagged(JOB.region, confirm=True) == listed
    assert not any(key.startswith("jobs/orpo-1/") for key in keys(left))
    assert {f"jobs/{key}" for key in OTHERS} | {"elsewhere"} <= set(keys(left))
    assert serving() == before[1] - ours and clean_up_tagged(JOB.region) == {}


def test_the_cache_goes_with_the_tagged_only_when_named(left):
    left.put_object(Bucket="class", Key="cache/entries/1.json", Body=b"{}")
    assert clean_up_tagged(JOB.region, confirm=True) == {} and "cache/entries/1.json" in keys(left)
    assert clean_up_tagged(JOB.region, "s3://class/cache/", confirm=True) == {"s3://class/cache/": 2}
    assert "cache/entries/1.json" not in keys(left)
    with pytest.raises(ValueError, match="s3://class is a whole bucket"):
        clean_up_tagged(JOB.region, "s3://class", confirm=True)


def test_a_tagged_job_that_runs_holds_everything_up(bucket):
    from moto.backends import get_backend

    submit(JOB)
    serve("ours", [PROJECT_TAG])
    get_backend("sagemaker")["123456789012"]["us-east-1"].training_jobs["orpo-1"].training_job_status = "InProgress"
    before = keys(bucket), serving()
    with pytest.raises(JobError, match="orpo-1 is InProgress: wait until it ends, or stop_job it first"):
        clean_up_tagged(JOB.region, confirm=True)
    assert (keys(bucket), serving()) == before


def test_jobs_of_a_bucket_that_is_gone_hold_nothing_up(bucket):
    submit(JOB)
    for key in keys(bucket):
        bucket.delete_object(Bucket="class", Key=key)
    bucket.delete_bucket(Bucket="class")
    serve("ours", [PROJECT_TAG])
    assert set(clean_up_tagged(JOB.region, confirm=True)) == {"Endpoint ours", "EndpointConfig ours", "Model ours"}
    assert not serving()
