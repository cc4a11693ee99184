from stood_in import absent

__getattr__ = absent(__name__)
