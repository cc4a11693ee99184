"""Which accelerator this machine has, why, and what to import for it. `python -m helpers.backends` says it in one line.

machine   what is there            choice   which backend, and why            classes   its trainers, loading, saving

An accelerator that is there but can't be used is never passed over for the CPU: a BackendError says how to fix it, and
`WORKSHOP_BACKEND=cpu` (or the argument) overrides. Where torch_xla is installed, the override needs `set_xla_aside()`
before transformers is imported. Show, techniques and scripts may import this room; it imports neuron and what lies
below.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "machine": "AWS_PACKAGES NEURON_PACKAGES Machine installed read_machine set_xla_aside",
        "choice": "NAMES Backend BackendError detect explain has_trainium",
        "classes": "load_neuron_model neuron_classes torch_classes",
    },
)
