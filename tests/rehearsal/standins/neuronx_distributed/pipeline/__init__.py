from stood_in import absent

NxDPPModel = absent(__name__)("NxDPPModel")  # one class, so that isinstance() means something
