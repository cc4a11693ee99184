"""Where a job goes: to an AWS account that you name, or, where none is named, to the service on this machine."""

import contextlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.sagemaker import loopback
from helpers.sagemaker.aws_errors import client, told
from helpers.sagemaker.bucket_check import refuse_bucket_elsewhere
from helpers.sagemaker.catalogue import ACCOUNTS
from helpers.sagemaker.job import TrainingJob
from helpers.sagemaker.role import trust_policy
from helpers.sagemaker.role_check import refuse_other_account
from helpers.sagemaker.service import pattern_of
from helpers.store import S3_URL

REHEARSED = "rehearsed on this machine, not on AWS"
MOST_STEPS = 20  # of a rehearsed job: two minutes with the laptop profile


@dataclass(frozen=True)
class Account:
    """What a job needs of an account. `folder` is where a rehearsal keeps its service and what its jobs write."""

    role: str
    region: str
    output: str
    folder: Path | None = None

    @property
    def rehearsed(self) -> bool:
        """True where nothing reaches AWS."""
        return self.folder is not None

    @property
    def every(self) -> float:
        """Seconds between two looks at a job."""
        return 1.0 if self.rehearsed else 15.0

    def __str__(self) -> str:
        return REHEARSED if self.rehearsed else f"on AWS, {self.region}: {self.output}"

    def fit(self, job: TrainingJob, profile) -> TrainingJob:
        """The job as it is submitted: unchanged on AWS; in a rehearsal it trains the profile's small model on a CPU."""
        if not self.rehearsed:
            return job
        if job.instance_count > 1:
            raise ValueError(
                f"instance_count is {job.instance_count}: a rehearsal has one instance, this machine; give 1"
            )
        method = job.hyperparameters["method"]
        small = {"method": method, "model": profile.model, "pairs": profile.train_pairs, "seed": profile.seed}
        small |= {"max_steps": min(profile.steps, MOST_STEPS), "save_steps": min(profile.save_every, MOST_STEPS)}
        small |= {"per_device_train_batch_size": profile.pairs_per_step, "learning_rate": profile.learning_rate}
        small |= {"max_length": profile.max_length, "lora_rank": profile.lora_rank, "backend": "cpu"}
        return replace(job, hyperparameters=small | ({} if method == "sft" else {"beta": profile.beta}))

    def close(self) -> None:
        """End the rehearsal's service; on AWS there is nothing to end."""
        if self.rehearsed:
            loopback.stop(self.folder)


def open_account(role: str = "", output: str = "", region: str = "", folder: Path | None = None) -> Account:
    """The account of this role and this place in S3; for neither, a rehearsal in `folder`. Creates nothing on AWS.

    Raises ValueError or JobError, one line with the fix.
    """
    region = region or "us-east-1"
    if not role and not output:
        return open_rehearsal(region, folder)
    if not re.fullmatch(pattern_of("RoleArn"), role):
        raise ValueError(f"role {role!r} is no ARN of a role: give arn:aws:iam::<account>:role/<name>")
    if not S3_URL.fullmatch(output):
        raise ValueError(f"output {output!r}: give s3://bucket/prefix, for a bucket in {region}")
    loopback.release_boto3()  # of an earlier rehearsal in this kernel
    refuse_other_account(role, region)
    refuse_bucket_elsewhere(output, region)
    return Account(role, region, output)


def open_rehearsal(region: str, folder: Path) -> Account:
    """The service of this folder, with a bucket and a role; boto3 finds nothing else in this process from here on."""
    region = region if region in ACCOUNTS else "us-east-1"
    url = loopback.start(folder)
    loopback.point_boto3(url, region)
    with told("CreateBucket rehearsal"):
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        store = client("s3", region)
        if "rehearsal" not in [bucket["Name"] for bucket in store.list_buckets()["Buckets"]]:
            store.create_bucket(Bucket="rehearsal", **place)
    role = f"arn:aws:iam::{loopback.ACCOUNT}:role/rehearsal"
    opened = Account(role, region, "s3://rehearsal/jobs", folder.resolve())
    make_role(opened)
    return opened


def make_role(account: Account) -> None:
    """The role of a rehearsal, unless it is there, with the trust that a job's role needs."""
    iam, trust = client("iam", account.region), json.dumps(trust_policy(account))
    with told("CreateRole rehearsal"), contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=account.role.rpartition("/")[2], AssumeRolePolicyDocument=trust)
