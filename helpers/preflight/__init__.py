"""Is this machine ready? `python -m helpers.preflight [--json]` prints OK or FAIL with the fix; exit code 0 or 1.

`readiness` asks about Python, packages, kernel, widgets, memory, processors, disk and base model. Backends and
everything above may import this room; it imports `files`, `runs` and `training`.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "check": "Check",
        "readiness": "checks",
        "packages": "installed packages_check pythonpath_check read_pins",
        "times": "recorded_times",
    },
)
