from contextlib import contextmanager
from enum import Enum

from stood_in import absent

_ATTRIBUTES = (
    "tensor_model_parallel",
    "partition_dim",
    "partition_stride",
    "num_partitions",
    "sequence_parallel_enabled",
)


class LogicalNCConfig(Enum):
    """How many physical cores make one logical core."""

    LNC_1 = 1
    LNC_2 = 2


def get_platform_lnc():
    """As on trn1."""
    return LogicalNCConfig.LNC_1


@contextmanager
def preserve_parallel_attributes(model):
    """Moving a module to an XLA device makes new parameters; what was written on the old ones comes back."""
    kept = {name: [getattr(p, a, None) for a in _ATTRIBUTES] for name, p in model.named_parameters()}
    yield
    for name, parameter in model.named_parameters():
        for attribute, value in zip(_ATTRIBUTES, kept[name], strict=True):
            if value is not None:
                setattr(parameter, attribute, value)


@contextmanager
def preserve_shared_weights(model):
    """Two names of one parameter stay one parameter."""
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    yield
    for first, *others in names.values():
        for other in others:
            module, _, attribute = other.rpartition(".")
            model.get_submodule(module).register_parameter(attribute, model.get_parameter(first))


def move_model_to_device(model, device):
    with preserve_parallel_attributes(model), preserve_shared_weights(model):
        model.to(device)


__getattr__ = absent(__name__)
