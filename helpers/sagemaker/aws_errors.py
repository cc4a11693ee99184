"""What AWS answers when a call fails, in one line with the fix."""

import contextlib

from helpers import aws


class JobError(RuntimeError):
    """A call to AWS, or a job, that failed: one line, with the fix."""


FIXES = {
    "ResourceLimitExceeded": "the quota is used up or 0: ask for more in Service Quotas, Amazon SageMaker, "
    '"<instance type> for training job usage"',
    "ThrottlingException": "too many calls: wait a minute, then call again",
    "AccessDenied": "your own role lacks this permission, or iam:PassRole for the job's role",
    "PermanentRedirect": "the bucket is in another region: take one in the job's region",
}
SAME = {
    "AccessDeniedException": "AccessDenied",
    "Throttling": "ThrottlingException",
}


@contextlib.contextmanager
def told(what: str):
    """boto3's errors as a JobError that names what was attempted."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code = answer.get("Code", "?")
        said = answer.get("Message", "")
        fix = FIXES.get(SAME.get(code, code)) or aws.fix_of(code, said) or said or "see the console of the service"
        raise JobError(f"{what}: AWS answered {code}: {' '.join(fix.split())}") from error
    except (BotoCoreError, ValueError) as error:
        if (said := aws.told(error)) is None:
            raise  # one of ours, which says what to do
        raise JobError(f"{what}: {said}") from error


def client(service: str, region: str):
    """A boto3 client that repeats what was throttled or answered with a 500; credentials as boto3 finds them."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60)
    with told(f"{service} in {region}"):
        return boto3.session.Session().client(service, region_name=region, config=config)
