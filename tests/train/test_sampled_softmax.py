"""The sampled softmax equals its formula, and estimates the softmax over the corpus."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.losses import sampled_softmax_loss

ONE = torch.tensor(1.0)


def nothing_left_out(positive: Tensor, pool: Tensor) -> Tensor:
    """Every other row is a negative of every positive."""
    return torch.zeros(len(positive), len(pool), dtype=torch.bool)


def test_full_corpus_pool_is_plain_softmax():
    """With every post once in the pool, the loss is cross-entropy over the corpus."""
    user, pool = F.normalize(torch.randn(4, 8), dim=-1), F.normalize(torch.randn(10, 8), dim=-1)
    positive = torch.tensor([3, 1, 4, 1])
    loss = sampled_softmax_loss(
        user, pool, positive, torch.zeros(10), torch.tensor(0.1), nothing_left_out(positive, pool)
    )

    torch.testing.assert_close(loss, F.cross_entropy(user @ pool.T / 0.1, positive))


def test_loss_by_hand():
    """Two positives, with log weights, one row left out of one denominator, and weights 1 and 3."""
    user, pool = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [1.0], [-1.0]])
    left_out = torch.tensor([[False, False, True], [False, False, False]])
    log_weight, own = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([-0.5, -1.0])
    loss = sampled_softmax_loss(
        user,
        pool,
        torch.tensor([0, 1]),
        log_weight,
        torch.tensor(2.0),
        left_out,
        positive_log_weight=own,
        weight=torch.tensor([1.0, 3.0]),
    )
    first = -math.log(math.exp(0.25 - 0.5) / (math.exp(0.25 - 0.5) + math.exp(0.5 + 0.2)))
    rest = math.exp(0.5 + 0.1) + math.exp(-1 + 0.3)
    second = -math.log(math.exp(1 - 1.0) / (math.exp(1 - 1.0) + rest))

    assert loss.item() == pytest.approx((first + 3 * second) / 4, rel=1e-6)


def test_log_q_makes_copies_count_once():
    """Some k copies of a negative with expected count k weigh like one copy with count 1."""
    user, pool, positive = torch.randn(1, 4), torch.randn(3, 4), torch.tensor([0])
    once = sampled_softmax_loss(
        user, pool, positive, torch.zeros(3), ONE, nothing_left_out(positive, pool)
    )
    copies = torch.tensor([0, 1, 1, 1, 2])
    log_weight = -torch.tensor([0.0, *[math.log(3)] * 3, 0.0])
    often = sampled_softmax_loss(
        user, pool[copies], positive, log_weight, ONE, nothing_left_out(positive, copies)
    )

    torch.testing.assert_close(once, often)


def test_rows_left_out_have_no_gradient():
    """What is no negative of any positive is not moved, and all else is."""
    user, pool = torch.randn(2, 4), torch.randn(5, 4, requires_grad=True)
    left_out = nothing_left_out(user, pool)
    left_out[:, 3] = True
    positive = torch.tensor([0, 1])
    sampled_softmax_loss(user, pool, positive, torch.zeros(5), ONE, left_out).backward()

    assert pool.grad.abs().sum(dim=1).gt(0).tolist() == [True, True, True, False, True]


def test_no_positives_is_no_loss():
    """A batch in which nobody engaged costs 0, and every side still has a gradient of 0.

    Workers that train together wait for each other's gradients.
    """
    user, pool, temperature = (
        torch.ones(shape, requires_grad=True) for shape in ((0, 4), (3, 4), ())
    )
    empty = torch.empty(0, dtype=torch.long)
    loss = sampled_softmax_loss(
        user, pool, empty, torch.zeros(3), temperature, nothing_left_out(empty, pool)
    )
    loss.backward()

    assert loss == 0
    assert all(side.grad is not None and not side.grad.any() for side in (user, pool, temperature))


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_correction_is_the_published_weighting(seed):
    """The gradient is that of -(1 - P) (f_p - log S), P and S held as the paper says.

    S sums exp(f - log Q) over the negatives only, and P = exp(f_p) / (exp(f_p) + S).
    """
    g = torch.Generator().manual_seed(seed)
    f = (3 * torch.randn(1, 6, generator=g)).requires_grad_()
    log_weight = torch.randn(6, generator=g)
    positive = torch.tensor([2])
    ours = sampled_softmax_loss(
        torch.ones(1, 1), f.T, positive, log_weight, ONE, nothing_left_out(positive, f.T)
    )
    negatives = torch.arange(6) != 2
    log_s = torch.logsumexp(f[0, negatives] + log_weight[negatives], dim=0)
    p = (f[0, 2].exp() / (f[0, 2].exp() + log_s.exp())).detach()
    theirs = -(1 - p) * (f[0, 2] - log_s)

    torch.testing.assert_close(*(torch.autograd.grad(loss, f)[0] for loss in (ours, theirs)))


def mean_gradient(log_q: str, num_drawn: int, num_rounds: int) -> tuple[Tensor, Tensor]:
    """Gradient of the sampled loss by the corpus' inner products, over many pools; and the true.

    Twelve posts; the positive, number 2, is the most popular; pools are drawn by popularity.
    """
    rng = np.random.default_rng(0)
    f = torch.from_numpy(rng.normal(size=(12, 1)).astype(np.float32)).requires_grad_()
    share = np.array([0.2 if i == 2 else 0.8 / 11 for i in range(12)]) * rng.uniform(0.5, 2, 12)
    share /= share.sum()
    pool = np.concatenate(
        [
            np.full((num_rounds, 1), 2),
            rng.choice(12, size=(num_rounds, num_drawn), p=share),
        ],
        axis=1,
    )
    log_weight = torch.from_numpy(-np.log(num_drawn * share).astype(np.float32))
    positive = torch.tensor([0])
    loss = torch.zeros(())
    for drawn in torch.from_numpy(pool):
        weight = log_weight[drawn] * (log_q != "none")
        own = weight[:1] if log_q == "standard" else None
        left_out = (drawn == 2)[None]
        user = torch.ones(1, 1)
        loss = loss + sampled_softmax_loss(user, f[drawn], positive, weight, ONE, left_out, own)
    sampled = torch.autograd.grad(loss / num_rounds, f)[0][:, 0]
    full = F.cross_entropy(f.T, torch.tensor([2]))
    return sampled, torch.autograd.grad(full, f)[0][:, 0]


@pytest.mark.parametrize("log_q", ["none", "standard", "corrected"])
def test_only_the_correction_estimates_the_whole_softmax(log_q):
    """Over many pools the corrected gradient is the corpus' one; the other two are not near it."""
    sampled, full = mean_gradient(log_q, num_drawn=400, num_rounds=300)
    error = ((sampled - full).norm() / full.norm()).item()

    assert error < 0.02 if log_q == "corrected" else error > 0.1
