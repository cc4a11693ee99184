"""The policies that a job needs, as narrow as they can be: of its role, of who may assume it, of who submits."""

import json

from helpers.sagemaker.catalogue import image_uri
from helpers.sagemaker.follow import LOGS
from helpers.sagemaker.job import TrainingJob
from helpers.store import S3_URL

READ_IMAGE = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
# What SageMaker asks of a role whose jobs run in a VPC
VPC_CHANGES = ("ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface")
VPC_LOOKS = (  # EC2 takes no narrower resource for these
    *("ec2:DeleteNetworkInterfacePermission", "ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces"),
    *("ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
)


def execution_policy(job: TrainingJob) -> dict:
    """What the job's role may do: its places in S3, its log and metrics, its image; secret, key, VPC if it has them."""
    statements = [*(part for url in places_of(job) for part in on_s3(url, ("s3:GetObject", "s3:PutObject")))]
    statements += [
        allow("Log", log_actions("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents"), logs(job)),
        allow("Metrics", "cloudwatch:PutMetricData", "*", StringEquals={"cloudwatch:namespace": LOGS}),
        allow("SignInToTheRegistry", "ecr:GetAuthorizationToken", "*"),
        allow("PullTheImage", READ_IMAGE, repository(job)),
    ]
    if job.token_secret:
        secret = f"{arn(job, 'secretsmanager')}:secret:{job.token_secret}-??????"  # AWS adds six characters
        statements.append(allow("ReadTheSecret", "secretsmanager:GetSecretValue", secret))
    if job.kms_key:
        if not job.kms_key.startswith("arn:"):
            raise ValueError(f"kms_key {job.kms_key!r}: a policy needs the ARN of the key, arn:aws:kms:…:key/<id>")
        statements.append(allow("UseTheKey", ("kms:Decrypt", "kms:GenerateDataKey"), job.kms_key))
        only = {"kms:GrantIsForAWSResource": "true"}
        statements.append(allow("LendTheKeyToTheVolume", "kms:CreateGrant", job.kms_key, Bool=only))
    if job.subnets:
        named = [f"subnet/{name}" for name in job.subnets] + [f"security-group/{name}" for name in job.security_groups]
        parts = [f"{arn(job, 'ec2')}:{part}" for part in ("network-interface/*", *named)]
        statements += [allow("JoinTheVpc", VPC_CHANGES, parts), allow("LookAtVpcs", VPC_LOOKS, "*")]
    return policy(statements)


def trust_policy(job) -> dict:
    """Who may take the role on: SageMaker, for this account's training jobs in this region.

    job: a TrainingJob, or an Account: its role and region count.
    """
    account, jobs = job.role.split(":")[4], f"{arn(job, 'sagemaker')}:training-job/*"
    trusted = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": jobs}},
    }
    return policy([trusted])


def caller_policy(job: TrainingJob) -> dict:
    """What you need, or the role of your Studio space: jobs, this one role to pass, the same places in S3, the log."""
    calls = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags")
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    return policy(
        [
            allow("Jobs", tuple(f"sagemaker:{name}" for name in calls), f"{arn(job, 'sagemaker')}:training-job/*"),
            allow("FindJobs", "sagemaker:ListTrainingJobs", "*"),
            allow("PassThisRoleOnly", "iam:PassRole", job.role, StringEquals=passed),
            allow("LookAtThisRole", "iam:GetRole", job.role),
            allow("ReadTheLog", log_actions("DescribeLogStreams", "GetLogEvents"), logs(job)),
            *(part for url in places_of(job) for part in on_s3(url, actions)),
        ]
    )


def how_to_create(job: TrainingJob) -> str:
    """The two commands that make the role, for whoever may make roles; the policies are two files."""
    name = job.role.rpartition("/")[2]
    return (
        f"aws iam create-role --role-name {name} --assume-role-policy-document file://trust.json\n"
        f"aws iam put-role-policy --role-name {name} --policy-name orpo-workshop --policy-document file://policy.json"
    )


def how_to_ask_for_quota(job: TrainingJob) -> str:
    """The two commands that look up the quota of the job's instances, 0 in a new account, and ask for more."""
    quota = f"{job.instance_type} for {'spot ' if job.spot else ''}training job usage"
    query = f"Quotas[?QuotaName=='{quota}'].[QuotaCode,Value]"
    return (
        f'aws service-quotas list-service-quotas --service-code sagemaker --region {job.region} --query "{query}"\n'
        f"aws service-quotas request-service-quota-increase --service-code sagemaker --region {job.region} "
        f"--quota-code <code> --desired-value {job.instance_count}"
    )


def as_json(document: dict) -> str:
    """A policy as IAM takes it."""
    return json.dumps(document, indent=2)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def policy(statements: list[dict]) -> dict:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": statements}


def allow(name: str, actions, resources, **condition) -> dict:
    """A statement that allows; one action or resource is written without a list."""
    actions = actions if isinstance(actions, str) else sorted(actions)
    resources = resources if isinstance(resources, str) else list(resources)
    made = {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources}
    return made | ({"Condition": condition} if condition else {})


def places_of(job: TrainingJob) -> list[str]:
    """The S3 prefixes that a job reads and writes."""
    return [job.output, *([job.cache_url] if job.cache_url else [])]


def on_s3(url: str, actions: tuple[str, ...]) -> list[dict]:
    """Listing under the prefix of a bucket, and `actions` on the objects there."""
    parts = S3_URL.fullmatch(url)
    bucket, prefix = parts["bucket"], (parts["prefix"] or "").strip("/")
    name = "".join(word.title() for word in prefix.replace("-", "/").replace("_", "/").split("/")) or "Bucket"
    only = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}} if prefix else {}
    objects = f"arn:aws:s3:::{bucket}/{prefix}/*" if prefix else f"arn:aws:s3:::{bucket}/*"
    name = "".join(filter(str.isalnum, name))
    return [
        allow(f"List{name}", "s3:ListBucket", f"arn:aws:s3:::{bucket}", **only),
        allow(f"Use{name}", actions, objects),
    ]


def log_actions(*names: str) -> tuple[str, ...]:
    """Actions of CloudWatch Logs."""
    return tuple(f"logs:{name}" for name in names)


def logs(job: TrainingJob) -> list[str]:
    """The log group of training jobs, and its streams."""
    group = f"{arn(job, 'logs')}:log-group:{LOGS}"
    return [group, f"{group}:*"]


def repository(job: TrainingJob) -> str:
    """The registry's repository that the image is pulled from."""
    host, _, rest = (job.image or image_uri(job.region)).partition("/")
    account, _, _, region = host.split(".")[:4]
    return f"arn:aws:ecr:{region}:{account}:repository/{rest.partition(':')[0]}"


def arn(job: TrainingJob, service: str) -> str:
    """The beginning of an ARN in the job's account and region."""
    return f"arn:aws:{service}:{job.region}:{job.role.split(':')[4]}"
