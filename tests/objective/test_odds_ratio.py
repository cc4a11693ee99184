"""The objective against hand-worked values, float64 and TRL, and on its ugly edges."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.files import REPOSITORY
from helpers.objective.odds_ratio import LARGEST_MEAN_LOGP, log_odds, odds_ratio_loss, orpo_loss
from tests.conftest import trl_orpo

logp = st.floats(min_value=-60.0, max_value=-1e-3)


def log_odds_float64(x: np.ndarray) -> np.ndarray:
    """The textbook formula with exact small terms, in double precision."""
    x = np.asarray(x, dtype=np.float64)
    return x - np.where(x > -math.log(2), np.log(-np.expm1(np.minimum(x, LARGEST_MEAN_LOGP))), np.log1p(-np.exp(x)))


def test_values_worked_by_hand():
    # p = 1/2 has odds 1; p = 3/4 has odds 3; p = 1/4 has odds 1/3.
    assert log_odds(torch.tensor([0.5, 0.75, 0.25]).log()).tolist() == pytest.approx(
        [0.0, math.log(3), -math.log(3)], abs=1e-6
    )
    # Odds 3 against 1/3: ratio 9, −log σ(log 9) = −log(9/10).
    chosen, rejected = torch.tensor([0.75]).log(), torch.tensor([0.25]).log()
    assert odds_ratio_loss(chosen, rejected).item() == pytest.approx(math.log(10 / 9), abs=1e-6)
    assert orpo_loss(-chosen, chosen, rejected, beta=2.0).item() == pytest.approx(
        math.log(4 / 3) + 2 * math.log(10 / 9), abs=1e-6
    )


def test_agrees_with_float64_over_twelve_magnitudes():
    x = -np.logspace(-4.6, 4, 4001)
    np.testing.assert_allclose(log_odds(torch.tensor(x)).numpy(), log_odds_float64(x), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_values_and_gradients_are_finite_on_the_whole_range(dtype):
    edges = [0.0, -1e-8, -1e-7, -1e-6, -1e-4, -math.log(2), -88.0, -104.0, -1e3, -1e4]
    x = torch.tensor(edges + list(-np.logspace(-9, 4, 300)), dtype=dtype)
    chosen, rejected = (grid.clone().requires_grad_() for grid in torch.meshgrid(x, x, indexing="ij"))
    values = odds_ratio_loss(chosen, rejected)
    values.sum().backward()
    assert values.dtype == torch.float32
    for tensor in (values, chosen.grad, rejected.grad):
        assert torch.isfinite(tensor).all()


def test_the_linear_term_keeps_its_gradient_where_the_other_is_clamped():
    x = torch.tensor([-1e-8], requires_grad=True)
    log_odds(x).backward()
    assert x.grad.item() == 1.0


def test_gradient_agrees_with_the_closed_form():
    # d log-odds / dℓ = 1 / (1 − p)
    x = torch.tensor([-5.0, -1.0, -0.6, -0.1, -0.01], requires_grad=True)
    log_odds(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 / (1 - np.exp(x.detach().double().numpy())), rtol=1e-5)


def forces(chosen: float, rejected: float, beta: float) -> tuple[float, float, float]:
    """(odds ratio, pull on the chosen log-prob, push on the rejected one), as notebook 03 writes them down."""
    odds = [p / (1 - p) for p in (chosen, rejected)]
    share = odds[1] / sum(odds)
    return odds[0] / odds[1], 1 + beta * share / (1 - chosen), beta * share / (1 - rejected)


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(("chosen", "rejected"), [(0.3, 0.2), (0.9, 0.2), (0.2, 0.9), (0.99, 0.94)])
def test_pull_and_push_are_those_of_notebook_03(chosen, rejected, beta):
    logps = torch.tensor([chosen, rejected]).log().requires_grad_()
    orpo_loss(-logps[0], logps[0], logps[1], beta).backward()
    _, pull, push = forces(chosen, rejected, beta)
    assert [-logps.grad[0].item(), logps.grad[1].item()] == pytest.approx([pull, push], rel=1e-3)


def test_the_numbers_in_notebook_03_are_right():
    text = (REPOSITORY / "notebooks" / "03_odds_ratio.ipynb").read_text(encoding="utf-8")
    ratio, pull, push = forces(0.99, 0.94, 1.0)
    assert f"the odds ratio is {ratio:.2f}, and yet the push is {push:.2f} and the pull {pull:.2f}" in text
    nearly_one = forces(1 - 1e-9, 0.94, 2.0)
    assert nearly_one[1:] == pytest.approx((1 + 2 * 0.94 / 0.06, 0), abs=1e-5), "its last sentence"


def test_numbers_are_taken_and_what_is_no_log_prob_is_told():
    """Two probabilities, 0.6 and 0.4: odds 1.5 against 2/3."""
    assert odds_ratio_loss(math.log(0.6), math.log(0.4)).item() == pytest.approx(math.log1p(1 / 2.25), rel=1e-6)
    assert orpo_loss(-math.log(0.6), math.log(0.6), math.log(0.4), 2).item() == pytest.approx(
        -math.log(0.6) + 2 * math.log1p(1 / 2.25), rel=1e-6
    )
    with pytest.raises(ValueError, match=r"^0\.6 is no log-prob, which is 0 or less: of a probability give math.log"):
        odds_ratio_loss(0.6, 0.4)
    with pytest.raises(ValueError, match=r"^'-1' is no log-prob: give a number"):
        log_odds("-1")
    with pytest.raises(ValueError, match=r"^beta is '1': give a number, without quotes$"):
        orpo_loss(-math.log(0.6), math.log(0.6), math.log(0.4), "1")


@given(logp, logp)
def test_swapping_the_responses_swaps_the_sign_of_the_log_odds_difference(a, b):
    # −log σ(z) + log σ(−z) = −z for any z, so the two losses differ by exactly the log-odds difference.
    a, b = torch.tensor([a]), torch.tensor([b])
    z = log_odds(a) - log_odds(b)
    assert (odds_ratio_loss(a, b) - odds_ratio_loss(b, a)).item() == pytest.approx(-z.item(), rel=1e-4, abs=1e-4)


@given(logp, logp, st.floats(min_value=1e-2, max_value=5.0))
def test_a_likelier_rejected_response_never_costs_less(chosen, rejected, more):
    likelier = min(rejected + more, -1e-3)
    before, after = (odds_ratio_loss(torch.tensor([chosen]), torch.tensor([r])).item() for r in (rejected, likelier))
    assert after >= before >= 0
    assert log_odds(torch.tensor(likelier)) >= log_odds(torch.tensor(rejected))


def test_beta_zero_is_sft():
    nll, chosen, rejected = torch.tensor([1.5, 2.5]), torch.tensor([-1.5, -2.5]), torch.tensor([-1.0, -9.0])
    assert orpo_loss(nll, chosen, rejected, beta=0.0).item() == 2.0


def test_agrees_with_trl():
    _, orpo_trainer = trl_orpo()
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (-torch.rand(64, generator=generator) * 4 - 0.05 for _ in range(2))
    trl_self = SimpleNamespace(beta=0.7, accelerator=SimpleNamespace(device="cpu"))
    losses = orpo_trainer.odds_ratio_loss(trl_self, chosen, rejected)[0]
    torch.testing.assert_close(0.7 * odds_ratio_loss(chosen, rejected), -losses, rtol=1e-5, atol=1e-5)
