"""From a saved model to an endpoint on Inferentia2 or Trn1: the export, and the requests that make the endpoint.

Nothing here was tried on that hardware or in an account. What can be checked without them is: sizes by Optimum Neuron's
rules, the command by its own parser (in the tests), requests by botocore's model of SageMaker.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from helpers.neuron.refusals import EVEN, dividing
from helpers.sagemaker.catalogue import ENDPOINTS, PRICING_PAGE, SERVING_IMAGE, image_uri
from helpers.sagemaker.service import PROJECT_TAG, pattern_of, validate
from helpers.store import S3_URL
from helpers.training.base_model import load_config

# optimum-neuron 0.4.5, optimum/neuron/models/inference/auto_models.py: what generates text
EXPORTED = ("granite", "llama", "llama4_text", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3")
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
LONGEST_NAME = 63
STARTS = 3600  # seconds until the container must answer, the most that SageMaker allows: it may compile before


@dataclass(frozen=True)
class Endpoint:
    """Three requests to SageMaker in a region, in the order in which they are sent, and what an hour costs."""

    region: str
    requests: dict[str, dict]
    usd_per_hour: float | None
    reckoned: str

    def __str__(self) -> str:
        price = "cost unknown" if self.usd_per_hour is None else f"costs ${self.usd_per_hour:.2f} an hour, used or not"
        return f"{self.region}, {price}: {self.reckoned}. Not sent, and not tried."


def export_command(
    folder: Path | str,
    cores: int,
    batch: int,
    length: int,
    model: Path | str | None = None,
    output: Path | str = "exported",
) -> str:
    """The command that compiles a saved model for NeuronCores; a ValueError where it could not work. Not tried.

    It takes an environment with Optimum Neuron and AWS's compiler (requirements-neuron.txt). cores: over how many the
    model is split. batch, length: requests at a time, and tokens of prompt and answer; both are fixed by the export.
    model: where the folder is on the machine that exports, if it is another one. output: where the result goes there.
    """
    model = model or folder
    config = load_config(str(folder))
    check_export(config, cores, batch, length)
    for path in (model, output):
        if not PLAIN_PATH.fullmatch(str(path)):  # optimum-cli hands it to a shell as it is
            raise ValueError(
                f"{str(path)!r}: optimum-cli takes letters, digits and . _ / - in a path: rename or move it"
            )
    sizes = {"--batch_size": batch, "--sequence_length": length, "--tensor_parallel_size": cores}
    # The binaries for Inferentia2 and Trn1 are the same: optimum-neuron 0.4.5, optimum/neuron/utils/instance.py
    options = {"--model": model, "--task": "text-generation", "--instance_type": "inf2"} | sizes
    words = ["optimum-cli", "export", "neuron", *(str(word) for option in options.items() for word in option)]
    return shlex.join([*words, str(output)])


def check_export(config, cores: int, batch: int, length: int) -> None:
    """Optimum Neuron exports this kind of model, and its parts divide by the cores."""
    if config.model_type not in EXPORTED:
        raise ValueError(f"Optimum Neuron 0.4.5 exports no {config.model_type}: take one of {', '.join(EXPORTED)}")
    refuse_small(cores=cores, batch=batch, length=length)
    if length > config.max_position_embeddings:
        raise ValueError(
            f"length {length}: the model has {config.max_position_embeddings} positions; give at most that"
        )
    for name, why in EVEN.items():
        if (size := getattr(config, name, None)) and size % cores:
            told = f"{cores} cores do not divide {name} {size} (Optimum Neuron {why})"
            raise ValueError(f"{told}: choose {dividing((getattr(config, each, 0) for each in EVEN), cores)}")


def refuse_small(**sizes: int) -> None:
    """None of these numbers is below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")


def endpoint_request(
    model_url: str,
    role: str,
    region: str,
    instance: str = "ml.inf2.xlarge",
    name: str = "orpo-workshop",
    cores: int = 1,
    batch: int = 1,
    length: int = 1024,
    image: str | None = None,
    usd_per_hour: float | None = None,
) -> Endpoint:
    """The requests that make an endpoint of a model in S3, each valid by botocore's model. Nothing is sent.

    model_url: s3://bucket/prefix/ with the files of the exported model. cores, batch, length: as it was exported.
    image: another container than Optimum Neuron's. usd_per_hour: of the instance, where the table's price is missing or
    old.
    """
    check_place(model_url, role, instance, name, cores)
    refuse_small(batch=batch, length=length)
    environment = {"SM_ON_MODEL": "/opt/ml/model", "SM_ON_BATCH_SIZE": batch, "SM_ON_SEQUENCE_LENGTH": length}
    environment |= {"SM_ON_TENSOR_PARALLEL_SIZE": cores}
    source = {"S3Uri": f"{model_url.rstrip('/')}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {
        "Image": image or image_uri(region, SERVING_IMAGE),
        "ModelDataSource": {"S3DataSource": source},
        "Environment": {key: str(value) for key, value in environment.items()},
    }
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InstanceType": instance,
        "InitialInstanceCount": 1,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTS,
    }
    requests = {
        "CreateModel": {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": container},
        "CreateEndpointConfig": {"EndpointConfigName": name, "ProductionVariants": [variant]},
        "CreateEndpoint": {"EndpointName": name, "EndpointConfigName": name},
    }
    requests = {operation: request | {"Tags": [PROJECT_TAG]} for operation, request in requests.items()}
    for operation, request in requests.items():
        validate(request, operation)
    return Endpoint(region, requests, *price_of(instance, usd_per_hour))


def check_place(model_url: str, role: str, instance: str, name: str, cores: int) -> None:
    """Place, role, instance and name are of the form that SageMaker takes, and the instance has the cores."""
    if not S3_URL.fullmatch(model_url):
        raise ValueError(f"model_url {model_url!r}: give s3://bucket/prefix")
    if not re.fullmatch(pattern_of("ExecutionRoleArn", "CreateModel"), role):
        raise ValueError(f"role {role!r} is no ARN of a role: give arn:aws:iam::<account>:role/<name>")
    if len(name) > LONGEST_NAME or not re.fullmatch(pattern_of("EndpointName", "CreateEndpoint"), name):
        raise ValueError(f"name {name!r}: use at most {LONGEST_NAME} letters, digits and hyphens, none at the ends")
    if instance not in ENDPOINTS:
        raise ValueError(f"instance {instance!r}: the container runs on {', '.join(ENDPOINTS)}")
    if not 1 <= cores <= ENDPOINTS[instance].cores:
        raise ValueError(f"cores is {cores}: {instance} has {ENDPOINTS[instance].cores} NeuronCores")


def price_of(instance: str, given: float | None) -> tuple[float | None, str]:
    """(US dollars an hour, from where); None where no price is known."""
    known = ENDPOINTS[instance]
    price, source = (given, "given by you") if given is not None else (known.usd_per_hour, known.source)
    if price is None:
        return None, f"no price of {instance} as an endpoint is known: read it at {PRICING_PAGE}, give usd_per_hour="
    return price, f"1 × {instance} ({source}), until the endpoint is deleted"
