"""What SageMaker offers to this workshop: container images by region, instances, and prices with their date.

SageMaker's image look-ups give wrong answers for Trn1, so the address is written out.
"""

from dataclasses import dataclass

# The last Neuron SDK that Optimum Neuron 0.4.5 fits; torch-neuronx, neuronx-cc and neuronx_distributed equal its pins
IMAGE = "pytorch-training-neuronx:2.8.0-neuronx-py311-sdk2.26.1-ubuntu22.04"
# Serves models on Inferentia2 and Trn1: vLLM through Optimum Neuron 0.4.5, with the same Neuron SDK
SERVING_IMAGE = "huggingface-vllm-inference-neuronx:0.11.0-optimum0.4.5-neuronx-py310-sdk2.26.1-ubuntu22.04"
# Whose registry serves a region: optimum-neuron 0.4.5, optimum/neuron/utils/ecr.py
MOST = "763104351884"
ACCOUNTS = dict.fromkeys(
    (
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
        *("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"),
        *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    ),
    MOST,
)
ACCOUNTS |= {"ap-southeast-4": "457447274322", "ap-southeast-3": "907027046896", "ap-east-1": "871362719292"}
ACCOUNTS |= {"ap-northeast-3": "364406365360", "ap-south-2": "772153158452", "eu-central-2": "380420809688"}
ACCOUNTS |= {"eu-south-1": "692866216735", "eu-south-2": "503227376785", "af-south-1": "626614931356"}
ACCOUNTS |= {"me-central-1": "914824155844", "me-south-1": "217643126080", "il-central-1": "780543022126"}

PRICING_PAGE = "https://aws.amazon.com/sagemaker/ai/pricing/"


@dataclass(frozen=True)
class Instance:
    """A kind of machine: its NeuronCores as a training process sees them, and what an hour costs where that is known.

    usd_per_hour: on demand, without storage; None where no official figure was found. core_gib, core_tflops: memory
    and dense bf16 of one core. link_gbytes: NeuronLink, GB/s a core (half of the chip's, or its part for four logical
    cores); network_gbit: between instances.
    """

    cores: int
    usd_per_hour: float | None = None
    source: str = ""
    core_gib: float = 16
    core_tflops: float = 95
    link_gbytes: float = 192
    network_gbit: float = 800


# Hardware: Neuron documentation, pages on Trn1, Trainium and Trainium2, read in November 2026; 25 Gbit/s is "up to"
INSTANCES = {
    "ml.trn1.2xlarge": Instance(2, 1.54, "aws-neuron/neuron-workshops, README, January 2026", network_gbit=25),
    "ml.trn1.32xlarge": Instance(32),
    "ml.trn1n.32xlarge": Instance(32, link_gbytes=384, network_gbit=1600),
    # logical cores, as SDK 2.26 groups them by default
    "ml.trn2.48xlarge": Instance(64, core_gib=24, core_tflops=167, link_gbytes=320, network_gbit=3200),
}

ENDPOINTS = {  # what an endpoint for a model of that container may run on
    "ml.inf2.xlarge": Instance(2, 0.99, "aws-neuron/neuron-workshops, README, January 2026"),
    "ml.inf2.8xlarge": Instance(2),
    "ml.inf2.24xlarge": Instance(12),
    "ml.inf2.48xlarge": Instance(24),
    "ml.trn1.2xlarge": Instance(2),  # the price above is that of training
    "ml.trn1.32xlarge": Instance(32),
}

# Spaces of Studio's JupyterLab: US dollars an hour by machine, and a GB of their storage for a month
SPACES_PER_HOUR = {"ml.t3.medium": 0.05, "ml.t3.large": 0.10, "ml.t3.xlarge": 0.20, "ml.m5.large": 0.115}
SPACES_PER_HOUR |= {"ml.m5.xlarge": 0.23}
SPACES_SOURCE = (
    "AWS price list, Studio JupyterLab, us-west-2, September 2026, as the code of another workshop quotes it"
)
SPACE_GB_MONTH = 0.112
STORAGE_SOURCE = "README of another public workshop in Studio, read in November 2026"


def image_uri(region: str, image: str = IMAGE) -> str:
    """The training container, or another one, in a region; a ValueError where its registry isn't known."""
    if region not in ACCOUNTS:
        raise ValueError(
            f"region {region}: no address of the Neuron container is known there; take one of "
            f"{', '.join(sorted(ACCOUNTS))}, or give image="
        )
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.amazonaws.com/{image}"
