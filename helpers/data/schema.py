"""The columns of a preference data set."""

COLUMNS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # DPO's, made by helpers.training.dpo
