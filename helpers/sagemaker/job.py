"""A SageMaker training job that starts scripts/train.py: what it is, its checks, and the exact request.

Everything that can be checked without an account is, before anything is created: each fault is one line with its fix.
"""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from helpers.credentials import refuse_credentials
from helpers.data.load import BUILT_IN, load_preferences
from helpers.sagemaker.catalogue import INSTANCES, PRICING_PAGE, image_uri
from helpers.sagemaker.volume import needed_gb
from helpers.store import S3_URL

METHODS = ("sft", "orpo", "dpo")
CODE = "/opt/ml/input/data/code/code.tar.gz"
# One line instead of the container's own launcher: SageMaker passes it on as it is (at most 256 characters)
UNPACK = f"mkdir -p /opt/ml/code && tar xzf {CODE} -C /opt/ml/code"
START = f"{UNPACK} && cd /opt/ml/code && exec python3 -m scripts.sagemaker_entry"
LONGEST_VALUE = {"hyperparameters": 2500, "environment": 512, "tags": 256}
MOST_VALUES = {"hyperparameters": 100, "environment": 90, "tags": 45}  # ours are added to the last two
LONGEST_WARM = 3600  # seconds that a warm pool may be kept, however often it is used
PROJECT_TAG = {"Key": "project", "Value": "orpo-workshop"}


@dataclass(frozen=True)
class TrainingJob:
    """One training job.

    name: also its identity: submitting the same name again finds the job. role: ARN of the execution role.
    output: s3://bucket/prefix for code, pairs, checkpoints and results. hyperparameters: those of scripts/train.py;
    `method` is needed. data: the built-in domain, or a file or folder as `load_preferences` takes it.
    max_runtime, max_wait, keep_alive: seconds. spot: cheaper, may be interrupted; then max_wait covers waiting and
    training. token_secret: the *name* of a Secrets Manager secret that holds a Hugging Face token. cache_url: where
    the compile cache is pulled from and pushed to. usd_per_hour: of one instance, if the table has no price, or an old
    one.
    volume_gb: reckoned from the model's sizes where it is None.
    requirements: a file of the checkout that the container installs; None for nothing.
    """

    name: str
    role: str
    region: str
    output: str
    hyperparameters: dict
    data: str | Path = BUILT_IN
    instance_type: str = "ml.trn1.2xlarge"
    instance_count: int = 1
    volume_gb: int | None = None
    max_runtime: int = 3600
    spot: bool = False
    max_wait: int | None = None
    keep_alive: int = 0
    environment: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    token_secret: str | None = None
    cache_url: str | None = None
    kms_key: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    image: str | None = None
    requirements: str | None = "requirements-neuron.txt"
    usd_per_hour: float | None = None

    @property
    def root(self) -> str:
        """Where everything of this job lies in S3, without a slash at its end."""
        return f"{self.output.rstrip('/')}/{self.name}"

    @property
    def cores(self) -> int:
        """Training processes on one instance."""
        return INSTANCES[self.instance_type].cores if self.instance_type in INSTANCES else 1

    def check(self) -> None:
        """A ValueError or FileNotFoundError of one line for the first thing that would not work."""
        check_names(self)
        check_sizes(self)
        check_times(self)
        for where in ("hyperparameters", "environment", "tags"):
            check_values(where, getattr(self, where))
        if self.data != BUILT_IN:
            load_preferences(self.data)

    def most_it_costs(self) -> tuple[float | None, str]:
        """(US dollars if it runs until it is stopped, how that is reckoned); None where the price isn't known.

        Spot is reckoned at the full price. Storage, requests and a warm pool after the job are not in it.
        """
        known = INSTANCES.get(self.instance_type)
        price, source = self.usd_per_hour, "given by you"
        if price is None and known and known.usd_per_hour:
            price, source = known.usd_per_hour, known.source
        if price is None:
            return None, f"no price of {self.instance_type} is known: read it at {PRICING_PAGE}, give usd_per_hour="
        most = self.instance_count * price * self.max_runtime / 3600
        hours = f"{self.max_runtime / 3600:.2f} h"
        return most, f"{self.instance_count} × {self.instance_type} × {hours} × ${price:.2f} an hour ({source})"


@functools.cache
def service_model():
    """botocore's description of SageMaker: no account, no network."""
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


def pattern_of(member: str, operation: str = "CreateTrainingJob") -> str:
    """The pattern that an operation asks of a member; botocore itself does not check it."""
    return service_model().operation_model(operation).input_shape.members[member].metadata["pattern"]


def check_names(job: TrainingJob) -> None:
    """Name, role, place, region and instance are of the form that SageMaker takes."""
    if len(job.name) > 63:
        raise ValueError(f"name {job.name!r} has {len(job.name)} characters: take at most 63")
    if not re.fullmatch(pattern_of("TrainingJobName"), job.name):
        raise ValueError(f"name {job.name!r}: use letters, digits and single hyphens, none at the ends")
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
        refuse_credentials("token_secret", {"name of the secret's": job.token_secret})


def check_sizes(job: TrainingJob) -> None:
    """The parallel sizes divide the processes that the instances give."""
    if job.instance_count < 1:
        raise ValueError(f"instance_count is {job.instance_count}: give 1 or more")
    if job.volume_gb is not None and job.volume_gb < 1:
        raise ValueError(f"volume_gb is {job.volume_gb}: give 1 or more")
    if job.hyperparameters.get("method") not in METHODS:
        raise ValueError(
            f"hyperparameters, method: is {job.hyperparameters.get('method')!r}; choose {', '.join(METHODS)}"
        )
    if int(job.hyperparameters.get("pipeline_parallel_size", 1)) != 1:
        raise ValueError("pipeline_parallel_size: the preference loss needs the whole model; leave it out")
    size, processes = int(job.hyperparameters.get("tensor_parallel_size", 1)), job.cores * job.instance_count
    if size < 1 or job.cores % size:
        raise ValueError(
            f"tensor_parallel_size {size} does not divide the {job.cores} cores of {job.instance_type} "
            f"({processes} in all): choose {', '.join(str(n) for n in range(1, job.cores + 1) if job.cores % n == 0)}"
        )


def check_times(job: TrainingJob) -> None:
    """Runtime, waiting and warm pool agree with each other."""
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


def request_of(job: TrainingJob, code_url: str, data_url: str | None) -> dict:
    """The arguments of CreateTrainingJob, validated by botocore's model. The urls are those of `package`."""
    request = {
        "TrainingJobName": job.name,
        "RoleArn": job.role,
        "AlgorithmSpecification": {
            "TrainingImage": job.image or image_uri(job.region),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["bash", "-c"],
            "ContainerArguments": [START],
        },
        "HyperParameters": {name: str(value) for name, value in job.hyperparameters.items()},
        "InputDataConfig": [channel("code", code_url)] + ([channel("train", data_url)] if data_url else []),
        "OutputDataConfig": {"S3OutputPath": job.output.rstrip("/")} | when(KmsKeyId=job.kms_key),
        "CheckpointConfig": {"S3Uri": f"{job.root}/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "ResourceConfig": {
            "InstanceType": job.instance_type,
            "InstanceCount": job.instance_count,
            "VolumeSizeInGB": job.volume_gb or needed_gb(job.hyperparameters)[0],
        }
        | when(KeepAlivePeriodInSeconds=job.keep_alive, VolumeKmsKeyId=job.kms_key),
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime} | when(MaxWaitTimeInSeconds=job.max_wait),
        "EnableManagedSpotTraining": job.spot,
        "Environment": environment_of(job),
        "Tags": [PROJECT_TAG, *({"Key": name, "Value": str(value)} for name, value in job.tags.items())],
    }
    if job.subnets:
        request["VpcConfig"] = {"Subnets": list(job.subnets), "SecurityGroupIds": list(job.security_groups)}
    validate(request)
    return request


def channel(name: str, url: str) -> dict:
    """An input channel: the files under an S3 prefix, whole on every instance."""
    source = {"S3DataType": "S3Prefix", "S3Uri": url, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def environment_of(job: TrainingJob) -> dict[str, str]:
    """What scripts/sagemaker_entry.py reads, beside what was given."""
    ours = {"WORKSHOP_PROCESSES": job.cores, "AWS_DEFAULT_REGION": job.region}
    ours |= when(WORKSHOP_REQUIREMENTS=job.requirements, WORKSHOP_CACHE_URL=job.cache_url)
    ours |= when(WORKSHOP_TOKEN_SECRET=job.token_secret)
    return {name: str(value) for name, value in (job.environment | ours).items()}


def when(**values) -> dict:
    """Those values that are there."""
    return {name: value for name, value in values.items() if value}


def validate(request: dict, operation: str = "CreateTrainingJob") -> None:
    """A ValueError of one line where botocore's model of an operation refuses the request."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(request, service_model().operation_model(operation).input_shape)
    if report.has_errors():
        raise ValueError(f"{operation} would be refused: {'; '.join(report.generate_report().splitlines())}")
