"""What a model is worth on held-out pairs: log-probs, answers, and how sure we may be of either.

methods     names and colours of the methods      scores      log-probs of pairs, accuracy, paired differences
intervals   95% intervals, and their text         answers     generation, chrF
tables      Markdown tables of results            heldout     one evaluation for every method, and where it is kept
baselines   what words alone reach                scoring     by sum, by mean, with and without the question
"""

from helpers.evaluation.answers import generate_answers, paired_chrf_difference
from helpers.evaluation.baselines import evaluate_baselines
from helpers.evaluation.heldout import (
    accuracy_by_kind,
    evaluate,
    groups_of,
    heldout_batches,
    load_heldout,
    record_comparison,
    record_data,
    references,
)
from helpers.evaluation.methods import METHODS
from helpers.evaluation.scores import paired_difference
from helpers.evaluation.tables import comparison_table, scoring_table

__all__ = [
    "METHODS",
    "accuracy_by_kind",
    "comparison_table",
    "evaluate",
    "evaluate_baselines",
    "generate_answers",
    "groups_of",
    "heldout_batches",
    "load_heldout",
    "paired_chrf_difference",
    "paired_difference",
    "record_comparison",
    "record_data",
    "references",
    "scoring_table",
]
