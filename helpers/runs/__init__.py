"""One run of the workshop on disk: its folder and stages, the machine that it ran on, its memory, what is recorded.

A stopped run continues from here (`folder`). Training, evaluation and everything above may import this room; it imports
`files` only.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "folder": "Run new_run open_run runs_folder",
        "machine": "clock here_and_now hide_xla machine_info machine_report machine_text matmul_gflops "
        "peak_memory_bytes versions",
        "memory": "Memory",
        "recorded": "provenance provenance_of_runs read_recorded recorded_label recorded_runs results_folder",
    },
)
