"""Losses of pairwise preferences: exact gradients, no overflow, and what each is for."""

from __future__ import annotations

import pytest
import torch

from train.preference.losses import (
    bradley_terry,
    calibrated_bradley_terry,
    margin_bradley_terry,
    negative_penalty,
    penalty,
    spread_penalty,
)

LOSSES = {
    "bt": lambda p, r: bradley_terry(p, r),
    "margin": lambda p, r: margin_bradley_terry(p, r),
    "calibrated": lambda p, r: calibrated_bradley_terry(
        p, r, torch.full_like(p, 0.7), torch.full_like(r, 0.2)
    ),
}
NEGATIVE = torch.tensor([False, False, True, True])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    """Each loss's gradient is its slope, to 1e-6."""
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 5, dtype=torch.float64)
    preferred, rejected = (side.clone().requires_grad_(True) for side in scores)
    assert torch.autograd.gradcheck(LOSSES[name], (preferred, rejected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rule", ["user", "society"])
def test_penalties_gradients_are_those_of_finite_differences(rule):
    """Each constraint's gradient is its slope, to 1e-6."""
    weights = torch.tensor([[0.1, 0.2, 0.3, -0.4], [0.3, 0.1, -0.5, 0.2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda w: penalty(rule, w, NEGATIVE), weights.requires_grad_(True), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_extreme_scores_give_numbers(name, gap):
    """Scores so far apart that e^gap overflows give a finite loss and gradient."""
    preferred = torch.tensor([gap], dtype=torch.float32, requires_grad=True)
    loss = LOSSES[name](preferred, torch.zeros(1))
    loss.backward()
    assert loss.isfinite()
    assert preferred.grad.isfinite().all()


def test_even_weights_have_a_gradient():
    """The spread of weights that are all alike is penalised without a NaN."""
    weights = torch.full((1, 4), 0.1, requires_grad=True)
    loss = spread_penalty(weights).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.3, abs=1e-5)
    assert weights.grad.isfinite().all()


def test_a_margin_asks_for_more_than_an_order():
    """A pair in the right order but within the margin costs more than one beyond it."""
    near, far = (margin_bradley_terry(torch.tensor([d]), torch.zeros(1)) for d in (0.3, 0.8))
    assert near > 0.19
    assert far < 0.02


def test_negative_weights_that_are_low_enough_cost_nothing():
    """Only weights of negative actions above -0.1 are penalised."""
    low, high = torch.tensor([5.0, 5.0, -0.1, -1.0]), torch.tensor([5.0, 5.0, 0.1, -1.0])
    assert negative_penalty(low, NEGATIVE).item() == 0
    assert negative_penalty(high, NEGATIVE).item() == pytest.approx(0.1)


def test_a_stakeholder_without_a_rule_is_not_constrained():
    """The platform's penalty is 0, whatever its weights."""
    assert penalty("platform", torch.randn(3, 4), NEGATIVE).abs().sum() == 0
