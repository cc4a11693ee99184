import logging

from stood_in import absent

LOGGER = logging.getLogger("Neuron")
main = absent(__name__)("main")
