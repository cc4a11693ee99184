from neuronx_distributed.absent import absent
from neuronx_distributed.trainer import checkpoint

__getattr__ = absent(__name__)
