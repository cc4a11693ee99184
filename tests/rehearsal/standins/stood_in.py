"""A placeholder for every name that Optimum Neuron imports and the rehearsal never calls."""


def absent(module: str):
    """A module's __getattr__: any other name becomes a class that refuses to be used."""

    def make(name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(self, *args, **kwargs):
            raise NotImplementedError(f"{module}.{name} is not stood in for: only a Trainium's packages have it")

        return type(name, (), {"__init__": refuse, "__module__": module})

    return make
