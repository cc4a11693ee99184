"""All that is Trainium. Importing this package needs no accelerator software; using its trainer does."""

TRAINER = ("NeuronORPOConfig", "NeuronORPOTrainer")
__all__ = [*TRAINER]


def __getattr__(name: str):
    if name in TRAINER:
        from helpers.neuron import orpo

        return getattr(orpo, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
