from neuronx_distributed.absent import absent

__getattr__ = absent(__name__)
