"""The ORPO objective, in plain PyTorch: the ground floor that every trainer of the workshop stands on.

Source: Hong, Lee and Thorne, "ORPO: Monolithic Preference Optimization without Reference Model",
arXiv 2403.07691, equations 3 to 7. With ℓ the mean log-probability of a response's tokens,

    log-odds(ℓ) = ℓ − log(1 − e^ℓ)
    L_OR        = −log σ( log-odds(ℓ_chosen) − log-odds(ℓ_rejected) )
    L_ORPO      = mean over pairs of [ NLL(chosen) + β · L_OR ]

Everything is computed in float32 whatever the model's dtype: in bfloat16 no number lies between 0.996 and 1,
so 1 − e^ℓ would be zero for any response the model is sure of.
"""

import math
from numbers import Real

import torch
import torch.nn.functional as F

# log(1 − e^ℓ) has its pole at ℓ = 0, and a response this certain (p = 0.99998) has nothing left to learn.
# Its slope 1 / (1 − p) stays under 65,504, the largest float16: a gradient can go back to any dtype.
LARGEST_MEAN_LOGP = -2e-5


def log1m_exp(mean_logps: torch.Tensor) -> torch.Tensor:
    """log(1 − e^ℓ) for ℓ ≤ 0, float32, with finite values and gradients on the whole of [-1e4, 0].

    Two formulas, each used where it is exact (Mächler 2012, "Accurately Computing log(1 − exp(−|a|))").
    Each branch is also kept away from the other's range: `torch.where` multiplies the gradient of the branch
    not taken by zero, and zero times infinity is NaN.
    """
    x = mean_logps.float().clamp(max=LARGEST_MEAN_LOGP)
    near_zero = x > -math.log(2)
    log_of_expm1 = torch.log(-torch.expm1(torch.where(near_zero, x, -1.0)))
    log1p_of_exp = torch.log1p(-torch.exp(torch.where(near_zero, -1.0, x)))
    return torch.where(near_zero, log_of_expm1, log1p_of_exp)


def log_odds(mean_logps: torch.Tensor) -> torch.Tensor:
    """Log of the odds p / (1 − p) of a response, from its mean token log-prob (nats); any shape, float32 out.

    Only log(1 − p) is clamped: the linear term keeps its gradient of one everywhere. A number is taken as well; a
    ValueError for one above 0, which is a probability and no log-prob.
    """
    mean_logps = as_logps(mean_logps)
    return mean_logps.float() - log1m_exp(mean_logps)


def as_logps(value) -> torch.Tensor:
    """A tensor as it is, its values unseen (on a Trainium to read them would split the step); a number as a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, Real):
        raise ValueError(f"{value!r} is no log-prob: give a number, 0 or less, or a tensor")
    if value > 0:
        raise ValueError(f"{value} is no log-prob, which is 0 or less: of a probability give math.log({value})")
    return torch.tensor(float(value))


def odds_ratio_loss(chosen_mean_logps: torch.Tensor, rejected_mean_logps: torch.Tensor) -> torch.Tensor:
    """L_OR of the paper (equation 7), one value a pair: −log σ(log-odds(chosen) − log-odds(rejected))."""
    return -F.logsigmoid(log_odds(chosen_mean_logps) - log_odds(rejected_mean_logps))


def orpo_loss(
    chosen_nll: torch.Tensor,
    chosen_mean_logps: torch.Tensor,
    rejected_mean_logps: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """L_ORPO (equation 6), a float32 scalar: the mean over pairs of NLL(chosen) + β · L_OR.

    `chosen_nll` is a scalar or one value a pair; the mean log-probs have shape (pairs,). β is λ in the paper.
    """
    if isinstance(beta, str):
        raise ValueError(f"beta is {beta!r}: give a number, without quotes")
    return (
        torch.as_tensor(chosen_nll).float().mean()
        + beta * odds_ratio_loss(chosen_mean_logps, rejected_mean_logps).mean()
    )
