"""What a model is worth on held-out pairs: scores, their intervals, generated answers, and the table of methods.

Neuron, show, techniques, benchmarks and scripts may import this room; it imports `training` and what lies below.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "scores": "PairScores measure_pairs paired_difference",
        "answers": "generate_answers paired_chrf_difference",
        "heldout": "accuracy_by_kind evaluate heldout_batches load_heldout record_comparison record_data references",
        "tables": "comparison_table",
    },
)
