"""Losses equal their formulas, computed by hand or by a second route."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train.losses import action_loss, dwell_loss, sampled_softmax_loss

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
    assert dwell_loss(zero[..., 0], zero, zero, cap_s=30) == 0


def test_dwell_loss_caps_the_label():
    """Staying 90 s counts as the cap of 30 s; the error is a share of the cap."""
    labels, mask = torch.zeros(1, 2, A), torch.zeros(1, 2, A)
    labels[0, :, DWELL_TIME] = torch.tensor([90.0, 5.0])
    mask[0, 0, DWELL_TIME] = 1

    assert dwell_loss(torch.tensor([[24.0, 0.0]]), labels, mask, cap_s=30).item() == (
        pytest.approx(6 / 30)
    )


def test_full_corpus_pool_is_plain_softmax():
    """With every post once in the pool, the loss is cross-entropy over the corpus."""
    user, pool = F.normalize(torch.randn(4, 8), dim=-1), F.normalize(torch.randn(10, 8), dim=-1)
    positive = torch.tensor([3, 1, 4, 1])
    loss = sampled_softmax_loss(
        user, pool, positive, torch.arange(10), torch.zeros(10), torch.tensor(0.1)
    )

    torch.testing.assert_close(loss, F.cross_entropy(user @ pool.T / 0.1, positive))


def test_log_q_makes_copies_count_once():
    """Some k copies of a negative with expected count k weigh like one copy with count 1."""
    user, pool = torch.randn(1, 4), torch.randn(3, 4)
    once = sampled_softmax_loss(
        user, pool, torch.tensor([0]), torch.arange(3), torch.zeros(3), torch.tensor(1.0)
    )
    copies = torch.tensor([0, 1, 1, 1, 2])
    often = sampled_softmax_loss(
        user,
        pool[copies],
        torch.tensor([0]),
        copies,
        torch.tensor([0.0, *[math.log(3)] * 3, 0.0]),
        torch.tensor(1.0),
    )

    torch.testing.assert_close(once, often)


@given(st.integers(1, 5))
def test_own_copies_are_no_negatives(num_copies):
    """However often the positive's own post is in the pool, it never competes with itself."""
    user, post = torch.ones(1, 2), torch.ones(1, 2)
    pool = torch.cat([post] * (1 + num_copies))
    loss = sampled_softmax_loss(
        user,
        pool,
        torch.tensor([0]),
        torch.full((len(pool),), 9),
        torch.zeros(len(pool)),
        torch.tensor(1.0),
    )

    assert loss.item() == pytest.approx(0)


def test_no_positives_is_no_loss():
    """A batch in which nobody engaged costs 0, and every side still has a gradient of 0.

    Workers that train together wait for each other's gradients.
    """
    user, pool, temperature = (
        torch.ones(shape, requires_grad=True) for shape in ((0, 4), (3, 4), ())
    )
    empty = torch.empty(0, dtype=torch.long)
    loss = sampled_softmax_loss(user, pool, empty, torch.arange(3), torch.zeros(3), temperature)
    loss.backward()

    assert loss == 0
    assert all(side.grad is not None and not side.grad.any() for side in (user, pool, temperature))
