"""What is checked of a job before anything is created, without an account: each fault is one line with its fix."""

import re
from pathlib import Path

from helpers.credentials import refuse_credentials
from helpers.files import REPOSITORY
from helpers.sagemaker.catalogue import image_uri
from helpers.sagemaker.service import PROJECT_TAG, pattern_of, service_model
from helpers.store import S3_URL

LONGEST_VALUE = {"hyperparameters": 2500, "environment": 512, "tags": 256}
MOST_VALUES = {"hyperparameters": 100, "environment": 90, "tags": 45}  # ours are added to the last two
LONGEST_WARM = 3600  # seconds that a warm pool may be kept, however often it is used
SECRET_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables that the job gives to scripts/sagemaker_entry.py, and what a user gives instead
OURS = {
    "WORKSHOP_PROCESSES": "it is the number of the instance's cores",
    "WORKSHOP_REQUIREMENTS": "give requirements= of the job",
    "WORKSHOP_CACHE_URL": "give cache_url= of the job",
    "WORKSHOP_TOKEN_SECRET": "give token_secret= of the job",
    "AWS_DEFAULT_REGION": "give region= of the job",
}


def check_names(job) -> None:
    """Name, role, place, region and instance are of the form that SageMaker takes."""
    if len(job.name) > 63:
        raise ValueError(f"name {job.name!r} has {len(job.name)} characters: take at most 63")
    if not re.fullmatch(pattern_of("TrainingJobName"), job.name):
        raise ValueError(f"name {job.name!r}: use letters, digits and single hyphens, none at the ends")
    if job.go_on_from is not None and not re.fullmatch(pattern_of("TrainingJobName"), job.go_on_from):
        raise ValueError(f"go_on_from {job.go_on_from!r}: give the name of a job of this output")
    if not re.fullmatch(pattern_of("RoleArn"), job.role):
        raise ValueError(f"role {job.role!r} is no ARN of a role: give arn:aws:iam::<account>:role/<name>")
    for name, url in (("output", job.output), ("cache_url", job.cache_url)):
        if url is not None and not S3_URL.fullmatch(url):
            raise ValueError(f"{name} {url!r}: give s3://bucket/prefix")
    if job.image is None:
        image_uri(job.region)
    known = service_model().shape_for("TrainingInstanceType").enum
    if job.instance_type not in known:
        near = ", ".join(name for name in known if ".trn" in name)
        raise ValueError(f"instance_type {job.instance_type!r} is unknown to SageMaker training: Trainium is {near}")
    if bool(job.subnets) != bool(job.security_groups):
        raise ValueError("a VPC needs both subnets= and security_groups=: give both or neither")
    if job.token_secret is not None:
        check_secret(job.token_secret)
    if job.requirements:
        file = (REPOSITORY / job.requirements).resolve()
        if not file.is_file() or not file.is_relative_to(REPOSITORY) or Path(job.requirements).is_absolute():
            raise ValueError(f"requirements {job.requirements!r}: the checkout has no such file: give one, or None")


def check_secret(name: str) -> None:
    """The name of a secret: neither what it holds nor its ARN, from which no policy could be made."""
    refuse_credentials("token_secret", {"name of the secret's": name})
    if not SECRET_NAME.fullmatch(name):
        raise ValueError(
            f"token_secret {name!r}: give the secret's name (letters, digits and / _ + = . @ -), not its ARN"
        )


def check_numbers(job) -> None:
    """Counts, sizes and seconds are whole numbers; runtime, waiting and warm pool agree with each other."""
    for name in ("instance_count", "volume_gb", "max_runtime", "max_wait", "keep_alive"):
        value = getattr(job, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            seconds = "" if name in ("instance_count", "volume_gb") else " of seconds"
            raise ValueError(f"{name} is {value!r}: give a whole number{seconds}")
    for name in ("instance_count", "volume_gb", "usd_per_hour"):
        if (value := getattr(job, name)) is not None and value <= 0:
            raise ValueError(f"{name} is {value}: give {'a price' if name == 'usd_per_hour' else '1 or more'}")
    if job.max_runtime < 1:
        raise ValueError(f"max_runtime is {job.max_runtime}: give seconds")
    if job.spot and (job.max_wait is None or job.max_wait < job.max_runtime):
        raise ValueError(f"max_wait is {job.max_wait}: spot needs at least max_runtime, {job.max_runtime} seconds")
    if job.max_wait is not None and not job.spot:
        raise ValueError("max_wait is for spot: set spot=True, or leave it out")
    if not 0 <= job.keep_alive <= LONGEST_WARM:
        raise ValueError(f"keep_alive is {job.keep_alive}: give 0 to {LONGEST_WARM} seconds")
    if job.keep_alive and job.spot:
        raise ValueError("keep_alive: spot instances have no warm pool; choose one of the two")


def check_values(where: str, values: dict) -> None:
    """Few and short enough for SageMaker, and none that looks like a credential."""
    if len(values) > MOST_VALUES[where]:
        raise ValueError(f"{where}: {len(values)} values; give at most {MOST_VALUES[where]}")
    for name, value in values.items():
        if len(str(value)) > LONGEST_VALUE[where]:
            raise ValueError(f"{where}, {name}: longer than {LONGEST_VALUE[where]} characters; shorten it")
    refuse_credentials(where, values)


def check_keys(job) -> None:
    """Variables and tags have names that AWS takes, and not those that the job sets itself."""
    for name in job.environment:
        if name in OURS:
            raise ValueError(f"environment, {name}: the job sets it: leave it out, {OURS[name]}")
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"environment, {name}: use letters, digits and underscores, no digit first")
    for name in job.tags:
        if name == PROJECT_TAG["Key"]:
            raise ValueError(f"tags, {name}: every job has it, and clean_up_tagged looks for it: take another name")
        if name.lower().startswith("aws:"):
            raise ValueError(f"tags, {name}: names that begin with aws: are Amazon's own: take another name")
