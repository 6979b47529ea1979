"""Losses equal their formulas, computed by hand or by a second route."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train.losses import (
    action_loss,
    dwell_absolute_error,
    dwell_deviance,
)

A = len(ACTION_NAMES)


def test_action_loss_by_hand():
    """Two candidates, one observing two actions and one observing a single one."""
    logits, labels, mask = torch.zeros(1, 2, A), torch.zeros(1, 2, A), torch.zeros(1, 2, A)
    logits[0, 0, :2] = torch.tensor([2.0, -1.0])
    labels[0, 0, 0] = 1
    mask[0, 0, :2] = 1
    mask[0, 1, 3] = 1  # log-odds 0: costs log 2
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log(2)) / 2

    assert action_loss(logits, labels, mask).item() == pytest.approx(expected, rel=1e-6)


def test_unobserved_actions_teach_nothing():
    """What the log did not observe has no gradient, nor has the time spent."""
    logits = torch.randn(2, 3, A, requires_grad=True)
    mask = torch.zeros(2, 3, A)
    mask[..., [1, DWELL_TIME]] = 1
    action_loss(logits, torch.ones(2, 3, A), mask).backward()

    assert logits.grad.abs().sum(dim=(0, 1)).nonzero().flatten().tolist() == [1]


def test_nothing_observed_is_no_loss():
    """A batch without observations costs 0 and stays finite."""
    zero = torch.zeros(1, 1, A)

    assert action_loss(zero, zero, zero) == 0
    assert action_loss(zero, zero, zero, weight=zero[..., 0]) == 0
    for dwell_loss in (dwell_absolute_error, dwell_deviance):
        assert dwell_loss(zero[..., 0], zero, zero, cap_s=30) == 0


def test_dwell_absolute_error_caps_the_label():
    """Staying 90 s counts as the cap of 30 s; the error is a share of the cap."""
    labels, mask = torch.zeros(1, 2, A), torch.zeros(1, 2, A)
    labels[0, :, DWELL_TIME] = torch.tensor([90.0, 5.0])
    mask[0, 0, DWELL_TIME] = 1

    assert dwell_absolute_error(torch.tensor([[24.0, 0.0]]), labels, mask, cap_s=30).item() == (
        pytest.approx(6 / 30)
    )


def test_weighted_candidates_are_a_weighted_mean():
    """A candidate of weight 1/2 counts as half a candidate, above and below the line."""
    logits, labels, mask = torch.zeros(1, 2, A), torch.zeros(1, 2, A), torch.zeros(1, 2, A)
    logits[0, :, 0] = torch.tensor([2.0, -1.0])
    mask[0, :, :2] = 1
    costs = [math.log1p(math.exp(2)) + math.log(2), math.log1p(math.exp(-1)) + math.log(2)]
    expected = (costs[0] + costs[1] / 2) / 1.5
    loss = action_loss(logits, labels, mask, weight=torch.tensor([[1.0, 0.5]]))

    assert loss.item() == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.01, 400), st.floats(1, 299))
def test_dwell_deviance_is_tweedies(stay, said):
    """The closed form equals the general deviance at power 1.5, in shares of the cap."""
    labels, mask = torch.zeros(1, 1, A), torch.ones(1, 1, A)
    labels[..., DWELL_TIME] = stay
    y, mu, p = min(stay, 300) / 300, said / 300, 1.5
    terms = (y ** (2 - p) / ((1 - p) * (2 - p)), y * mu ** (1 - p) / (1 - p), mu ** (2 - p))
    expected = 2 * (terms[0] - terms[1] + terms[2] / (2 - p))

    loss = dwell_deviance(torch.tensor([[said]]), labels, mask, cap_s=300)
    assert loss.item() == pytest.approx(expected, rel=5e-3, abs=1e-4)


def test_dwell_losses_aim_at_median_and_mean():
    """Of stays of 1, 2 and 27 s the absolute error is least at 2 s, the deviance at 10 s."""
    labels, mask = torch.zeros(1, 3, A), torch.ones(1, 3, A)
    labels[0, :, DWELL_TIME] = torch.tensor([1.0, 2.0, 27.0])
    said = torch.arange(1, 28).float()

    def least(loss) -> float:
        costs = [loss(s.expand(1, 3), labels, mask, cap_s=300) for s in said]
        return said[torch.stack(costs).argmin()].item()

    assert least(dwell_absolute_error) == 2
    assert least(dwell_deviance) == 10


def test_stay_of_nothing_has_a_finite_gradient():
    """Deviance and gradient stay finite where softplus is as good as 0 and the stay long."""
    labels, mask = torch.zeros(1, 1, A), torch.ones(1, 1, A)
    labels[..., DWELL_TIME] = 300
    logit = torch.tensor([[-120.0]], requires_grad=True)
    dwell_deviance(F.softplus(logit), labels, mask, cap_s=300).backward()

    assert logit.grad.isfinite().all()
