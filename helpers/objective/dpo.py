"""The DPO loss, from log-probs of the policy and of its reference.

Source: Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
arXiv 2305.18290, equation 7. With L the *sum* of the log-probs of a response's tokens (ORPO takes their mean),

    L_DPO = mean over pairs of −log σ( β · [ (L_chosen − L_ref_chosen) − (L_rejected − L_ref_rejected) ] )
"""

import torch
import torch.nn.functional as F


def dpo_loss(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: float) -> torch.Tensor:
    """L_DPO, a float32 scalar, from summed log-probs (nats) of shape (pairs,) in any floating dtype.

    β says how dear it is to move away from the reference: 0.1 in the paper's experiments.
    """
    return dpo_losses(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta).mean()


def dpo_losses(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: float) -> torch.Tensor:
    """The loss of each pair: (pairs,)."""
    chosen, rejected = implicit_rewards(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return -F.logsigmoid(chosen - rejected)


def dpo_metrics(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: float) -> dict:
    """The means of `dpo_values`, each a scalar tensor."""
    values = dpo_values(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return {name: value.mean() for name, value in values.items()}


def dpo_values(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: float) -> dict:
    """What TRL's DPOTrainer logs of log-probs, for each pair: (pairs,). Its `logps` are sums, ORPO's means."""
    chosen, rejected = implicit_rewards(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "rewards/margins": chosen - rejected,
        "logps/chosen": chosen_logps.float(),
        "logps/rejected": rejected_logps.float(),
    }


def implicit_rewards(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: float):
    """β · (L − L_ref) of the chosen and of the rejected responses, float32: two of shape (pairs,)."""
    chosen = beta * (chosen_logps.float() - ref_chosen_logps.float())
    return chosen, beta * (rejected_logps.float() - ref_rejected_logps.float())
