"""A SageMaker training job that starts scripts/train.py: what it is, its checks, and the exact request.

Everything that can be checked without an account is, before anything is created: each fault is one line with its fix.
"""

from dataclasses import dataclass, field
from pathlib import Path

from helpers.data.load import BUILT_IN, load_preferences
from helpers.sagemaker.catalogue import INSTANCES, PRICING_PAGE, image_uri
from helpers.sagemaker.hyperparameters import check_hyperparameters, check_pairs
from helpers.sagemaker.job_checks import check_keys, check_names, check_numbers, check_values
from helpers.sagemaker.service import PROJECT_TAG, validate
from helpers.sagemaker.volume import needed_gb

CODE = "/opt/ml/input/data/code/code.tar.gz"
# One line instead of the container's own launcher: SageMaker passes it on as it is (at most 256 characters)
UNPACK = f"mkdir -p /opt/ml/code && tar xzf {CODE} -C /opt/ml/code"
START = f"{UNPACK} && cd /opt/ml/code && exec python3 -m scripts.sagemaker_entry"


@dataclass(frozen=True)
class TrainingJob:
    """One training job.

    name: also its identity: submitting the same name again finds the job. role: ARN of the execution role.
    output: s3://bucket/prefix for code, pairs, checkpoints and results. hyperparameters: those of scripts/train.py;
    `method` is needed. data: the built-in domain, or a file or folder as `load_preferences` takes it. split_by: where
    it has no splits, a tenth each of its rows is left out for `validation` and `heldout`, as in the notebooks, so that
    what they measure was not trained on; None trains on all rows.
    max_runtime, max_wait, keep_alive: seconds. spot: cheaper, may be interrupted; then max_wait covers waiting and
    training. token_secret: the *name* of a Secrets Manager secret that holds a Hugging Face token. cache_url: where
    the compile cache is pulled from and pushed to. usd_per_hour: of one instance, if the table has no price, or an old
    one.
    volume_gb: reckoned from the model's sizes where it is None.
    requirements: a file of the checkout that the container installs; None for nothing.
    go_on_from: the name of a job of the same `output` that ended too early: this one goes on from its checkpoints.
    """

    name: str
    role: str
    region: str
    output: str
    hyperparameters: dict
    data: str | Path = BUILT_IN
    split_by: str | None = "prompt"
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
    go_on_from: str | None = None

    @property
    def root(self) -> str:
        """Where everything of this job lies in S3, without a slash at its end."""
        return f"{self.output.rstrip('/')}/{self.name}"

    @property
    def checkpoints(self) -> str:
        """Where SageMaker keeps the checkpoints of this job, or of the one that it goes on from."""
        return f"{self.output.rstrip('/')}/{self.go_on_from or self.name}/checkpoints"

    @property
    def cores(self) -> int:
        """Training processes on one instance."""
        return INSTANCES[self.instance_type].cores if self.instance_type in INSTANCES else 1

    def check(self) -> None:
        """A ValueError or FileNotFoundError of one line for the first thing that would not work."""
        check_names(self)
        check_numbers(self)
        for where in ("hyperparameters", "environment", "tags"):
            check_values(where, getattr(self, where))
        check_keys(self)
        check_hyperparameters(self)
        if self.data != BUILT_IN:
            check_pairs(self, len(self.pairs()))

    def pairs(self):
        """The pairs that the job trains on, validated: those that the notebooks train on."""
        return load_preferences(self.data, split_by=self.split_by)

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
        "CheckpointConfig": {"S3Uri": job.checkpoints, "LocalPath": "/opt/ml/checkpoints"},
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
