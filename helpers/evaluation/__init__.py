"""What a model is worth on held-out pairs: log-probs, answers, and how sure we may be of either.

methods     names and looks of the methods      scores      log-probs of pairs, accuracy, paired differences
intervals   95% intervals, and their text       answers     generation, chrF
tables      Markdown tables of results          heldout     one evaluation for every method, and where it is kept
baselines   what words alone reach              scoring     by sum, by mean, with and without the question
checked     answers judged by the checker            per_token   log-probs token by token
kinds       which rules and kinds of answers go wrong

Neuron, show, techniques, benchmarks and scripts may import this room; it imports training and what lies below.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "methods": "METHODS look",
        "scores": "PairScores measure_pairs paired_difference",
        "answers": "generate_answers",
        "checked": "can_check measure_answers",
        "heldout": "compare evaluate groups_of heldout_batches load_heldout record_comparison record_data references",
        "per_token": "answer_logps",
        "kinds": "accuracy_by_kind kinds_table",
        "baselines": "evaluate_baselines",
        "intervals": "interval_text",
        "tables": "comparison_table difference_table expected_table markdown_table runs_summary runs_table "
        "scoring_table",
    },
)
