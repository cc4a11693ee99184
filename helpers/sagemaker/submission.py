"""Dry run, submit once, stop. A job's identity is its name."""

import json
import re

from helpers.data.load import BUILT_IN
from helpers.sagemaker.aws_errors import JobError, client, told
from helpers.sagemaker.bucket_check import refuse_bucket_elsewhere
from helpers.sagemaker.job import TrainingJob, request_of
from helpers.sagemaker.package import upload
from helpers.sagemaker.role_check import check_role
from helpers.sagemaker.volume import needed_gb


def job_name(*parts: str) -> str:
    """A name that SageMaker takes, from words that may hold anything: at most 63 letters, digits and hyphens."""
    return re.sub("[^a-zA-Z0-9]+", "-", "-".join(parts))[:63].strip("-")


def dry_run(job: TrainingJob) -> dict:
    """Check the job, print the request and what it costs at most, and return the request. Nothing is sent."""
    job.check()
    code, data = (f"{job.output.rstrip('/')}/{kind}/<sha256>" for kind in ("code", "data"))
    request = request_of(job, code, None if job.data == BUILT_IN else data)
    print(json.dumps(request, indent=2))
    if job.volume_gb is None:
        print("volume of {} GB: {}".format(*needed_gb(job.hyperparameters)))
    dollars, reckoned = job.most_it_costs()
    print(f"costs at most ${dollars:.2f}: {reckoned}" if dollars is not None else f"cost unknown: {reckoned}")
    return request


def submit(job: TrainingJob) -> str:
    """Send code and pairs, start the job, return its ARN. A job that exists by this name is not started again.

    Role and bucket are looked up before anything is sent.
    """
    job.check()
    service = client("sagemaker", job.region)
    if existing := find(service, job.name):
        state = existing["TrainingJobStatus"]
        print(f"{job.name} exists already, it is {state}: nothing was started{advice(job, existing)}")
        return existing["TrainingJobArn"]
    check_role(job.role, job.region)
    refuse_bucket_elsewhere(job.output, job.region)
    if job.go_on_from:
        check_earlier(service, job)
    request = request_of(job, *upload(job))
    with told(f"CreateTrainingJob {job.name}"):
        arn = service.create_training_job(**request)["TrainingJobArn"]
    print(f"{job.name} was started")
    return arn


def check_earlier(service, job: TrainingJob) -> None:
    """A JobError unless the job that this one goes on from is of the same method, and ended before its last step."""
    if (earlier := find(service, job.go_on_from)) is None:
        raise JobError(f"go_on_from {job.go_on_from}: there is no such job in {job.region}; check the name")
    state, method = earlier["TrainingJobStatus"], earlier.get("HyperParameters", {}).get("method")
    if state not in ("Failed", "Stopped"):
        fix = "fetch its results" if state == "Completed" else "wait until it ends, or stop_job it first"
        raise JobError(f"go_on_from {job.go_on_from}: it is {state}: {fix}")
    if method != job.hyperparameters["method"]:
        raise JobError(f"go_on_from {job.go_on_from}: it trains {method}: give a job of the same method")


def advice(job: TrainingJob, existing: dict) -> str:
    """What to do where the job that has this name is not the one that is meant, or is over without a model."""
    there, asked = (
        existing.get("HyperParameters", {}),
        {name: str(value) for name, value in job.hyperparameters.items()},
    )
    other = sorted(name for name in there | asked if there.get(name) != asked.get(name))
    if other:
        return f", though its hyperparameters are others ({', '.join(other)}): take another name for this one"
    return ", take another name to try again" if existing["TrainingJobStatus"] in ("Failed", "Stopped") else ""


def find(service, name: str) -> dict | None:
    """DescribeTrainingJob, or None where there is no such job."""
    from botocore.exceptions import ClientError

    with told(f"DescribeTrainingJob {name}"):
        try:
            return service.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            answer = error.response["Error"]
            if answer["Code"] in ("ValidationException", "ResourceNotFound") and "not f" in answer["Message"].lower():
                return None
            raise


def stop_job(name: str, region: str) -> None:
    """Ask SageMaker to stop a job; what it has made so far is kept."""
    service = client("sagemaker", region)
    if find(service, name) is None:
        raise JobError(f"{name}: there is no such job in {region}; check name and region")
    with told(f"StopTrainingJob {name}"):
        service.stop_training_job(TrainingJobName=name)
