"""Four techniques beside each other: SFT, SFT then DPO, RLHF in full, and ORPO. What each buys and what it costs.

budgets      what every technique may use          trainers    one trainer a stage, TRL's where TRL has one
comparison   runs the stages, resumes, measures    rewards     a reward model's word on answers
guards       settings that must stop               costs       passes, models, memory: counted by hand
measure      memory in a fresh process             results     recorded runs, as tables
figures      recorded runs, as pictures            __main__    `make techniques` records them

Notebooks and scripts may import this room; it may import all the others.
"""
