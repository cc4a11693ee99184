import logging

from neuronx_distributed.absent import absent

LOGGER = logging.getLogger("Neuron")
main = absent(__name__)("main")
