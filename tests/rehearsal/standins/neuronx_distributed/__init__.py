"""Stand-in for neuronx_distributed: one process, so every parallel size is 1 and every collective is the identity."""

from neuronx_distributed import parallel_layers, trainer

__version__ = "0.15.0+standin"
