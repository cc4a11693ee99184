"""Stand-in for neuronx_distributed: tensor and data parallelism, over one process or over several with gloo."""

from neuronx_distributed import parallel_layers, trainer

__version__ = "0.15.0+standin"
