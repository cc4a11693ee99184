"""Four techniques beside each other: SFT, SFT then DPO, RLHF in full, and ORPO. What each gains and what it costs.

budgets      stages, and what each may use         trainers    one trainer a stage, TRL's where TRL has one
comparison   runs the stages, resumes, measures    counting    training that is timed and counted
guards       settings that must stop               rewards     what a reward model says of answers
measure      memory in a fresh process             costs       passes, models, memory: counted by hand
quiet        no bars and red messages of libraries
results      recorded runs: reading, provenance    tables      the same as tables
figures      the same as pictures                  __main__    `make techniques` records them

Notebooks and scripts may import this room; it may import all the others.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "comparison": "Comparison",
        "figures": "plot_betas plot_memory plot_policy_optimisation plot_techniques plot_trade_off",
        "results": "memory_origin memory_provenance provenance_of recorded recorded_memory setting",
        "tables": "against_the_paper beta_table memory_ratios memory_table quality_table stage_table",
    },
)
