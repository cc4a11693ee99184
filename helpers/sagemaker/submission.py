"""Dry run, submit once, stop. A job's identity is its name."""

import json
import re

from helpers.data.load import BUILT_IN
from helpers.sagemaker.aws_errors import JobError, client, told
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
    request = request_of(
        job, f"{job.output}/code/<sha256>", None if job.data == BUILT_IN else f"{job.output}/data/<sha256>"
    )
    print(json.dumps(request, indent=2))
    if job.volume_gb is None:
        print("volume of {} GB: {}".format(*needed_gb(job.hyperparameters)))
    dollars, reckoned = job.most_it_costs()
    print(f"costs at most ${dollars:.2f}: {reckoned}" if dollars is not None else f"cost unknown: {reckoned}")
    return request


def submit(job: TrainingJob) -> str:
    """Send code and pairs, start the job, return its ARN. A job that exists by this name is not started again.

    The role is looked up before anything is sent.
    """
    job.check()
    service = client("sagemaker", job.region)
    if existing := find(service, job.name):
        print(f"{job.name} exists already, it is {existing['TrainingJobStatus']}: nothing was started")
        return existing["TrainingJobArn"]
    check_role(job.role, job.region)
    request = request_of(job, *upload(job))
    with told(f"CreateTrainingJob {job.name}"):
        arn = service.create_training_job(**request)["TrainingJobArn"]
    print(f"{job.name} was started")
    return arn


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
