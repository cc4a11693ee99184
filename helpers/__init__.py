"""What the notebooks build on: rooms, each of which imports only from the rooms below it.

From the ground up: files, store, objective, data, runs, training, evaluation, neuron, sagemaker, preflight, backends,
show, techniques.
Each room's docstring says what it is for. Notebooks and scripts import from rooms (`from helpers.data import
load_preferences`); modules inside import from modules.
"""

import importlib


def exports(room: str, modules: dict[str, str]) -> tuple:
    """`__all__`, `__getattr__` and `__dir__` of a room. `modules`: module of the room → its public names.

    A name is imported when it is first used (PEP 562), so that importing a room costs nothing and needs no package
    that only one of its modules needs.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def attribute(name: str):
        if name not in home:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{room}.{home[name]}"), name)

    return list(home), attribute, lambda: sorted(home)
