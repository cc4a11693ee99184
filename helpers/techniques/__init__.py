"""Four techniques beside each other: SFT, SFT then DPO, RLHF in full, and ORPO. What each buys and what it costs.

budgets      stages, and what each may use         trainers    one trainer a stage, TRL's where TRL has one
comparison   runs the stages, resumes, measures    counting    training that is timed and counted
guards       settings that must stop               rewards     what a reward model says of answers
measure      memory in a fresh process             costs       passes, models, memory: counted by hand
results      recorded runs: reading, provenance    tables      … as tables
figures      … as pictures                         __main__    `make techniques` records them
"""

from helpers.techniques.comparison import Comparison
from helpers.techniques.figures import (
    plot_betas,
    plot_memory,
    plot_policy_optimisation,
    plot_techniques,
    plot_trade_off,
)
from helpers.techniques.results import (
    memory_origin,
    memory_provenance,
    provenance_of,
    recorded,
    recorded_memory,
    setting,
)
from helpers.techniques.tables import (
    against_the_paper,
    beta_table,
    memory_ratios,
    memory_table,
    quality_table,
    stage_table,
)

__all__ = [
    "Comparison",
    "against_the_paper",
    "beta_table",
    "memory_origin",
    "memory_provenance",
    "memory_ratios",
    "memory_table",
    "plot_betas",
    "plot_memory",
    "plot_policy_optimisation",
    "plot_techniques",
    "plot_trade_off",
    "provenance_of",
    "quality_table",
    "recorded",
    "recorded_memory",
    "setting",
    "stage_table",
]
