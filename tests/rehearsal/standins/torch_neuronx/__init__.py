"""Stand-in for torch_neuronx, as far as training imports it."""

from neuronx_distributed.absent import absent

__getattr__ = absent(__name__)
