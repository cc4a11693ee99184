"""Stand-in for torch_neuronx, as far as training imports it."""

from stood_in import absent

__getattr__ = absent(__name__)
