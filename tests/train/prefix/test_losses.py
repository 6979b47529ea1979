"""Losses equal their formulas, computed by hand or text by text."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from train.prefix.losses import (
    cut_at_mode,
    distillation,
    draw_blocks,
    draw_lengths,
    first_blocks,
    info_nce,
    margin_loss,
    sup_con,
)

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, num: int = 9, num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows and labels."""
    rng = np.random.default_rng(seed)
    vectors = F.normalize(torch.from_numpy(rng.normal(size=(num, 5))), dim=-1)
    return vectors, torch.from_numpy(rng.integers(0, num_classes, num))


def test_info_nce_by_hand():
    """Two texts at right angles: the positive's share of two, at a temperature of one half."""
    anchor = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    expected = [
        math.log(1 + math.exp((0.0 - 0.6) / 0.5)),
        math.log(1 + math.exp((0.8 - 1.0) / 0.5)),
    ]

    assert info_nce(anchor, positive, 0.5).tolist() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25)
@given(seeds)
def test_masked_info_nce_leaves_out_the_same_class(seed):
    """With labels, each text's cost is that among positives of other classes and its own."""
    anchor, labels = drawn(seed)
    positive, _ = drawn(seed + 1)
    cost = info_nce(anchor, positive, 0.1, labels)
    for i in range(len(anchor)):
        rest = [k for k in range(len(anchor)) if k == i or labels[k] != labels[i]]
        share = torch.softmax(anchor[i] @ positive[rest].T / 0.1, dim=0)[rest.index(i)]
        assert cost[i].item() == pytest.approx(-math.log(share), abs=1e-6)


def test_margin_by_hand():
    """Pairs (0, 1) and (1, 0) against text 2, whose own class is alone and counts for nothing."""
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    labels = torch.tensor([5, 5, 7])
    # Text 0: 0.6 - 0.8 + 0.3; text 1: 0.96 - 0.8 + 0.3.
    assert margin_loss(vectors, labels, 0.3).item() == pytest.approx((0.1 + 0.46) / 2, abs=1e-6)
    weight = torch.tensor([1.0, 0.5, 1.0])
    assert margin_loss(vectors, labels, 0.3, weight).item() == pytest.approx(0.33 / 2, abs=1e-6)


@settings(max_examples=25)
@given(seeds, st.integers(1, 4))
def test_margin_equals_its_sum_over_pairs(seed, num_classes):
    """The loss of a batch is the mean over its pairs, taken one by one; 0 without any."""
    vectors, labels = drawn(seed, num_classes=num_classes)
    near, costs = vectors @ vectors.T, []
    for i in range(len(vectors)):
        others = near[i][labels != labels[i]]
        pairs = [p for p in range(len(vectors)) if p != i and labels[p] == labels[i]]
        if len(others):
            costs += [F.relu(others - near[i, p] + 0.2).mean().item() for p in pairs]

    expected = sum(costs) / len(costs) if costs else 0
    assert margin_loss(vectors, labels, 0.2).item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25)
@given(seeds, st.integers(1, 9))
def test_sup_con_equals_its_sum_over_positives(seed, num_classes):
    """The loss is the mean, over texts with a positive, of the mean over those; 0 without any."""
    vectors, labels = drawn(seed, num_classes=num_classes)
    costs = []
    for i in range(len(vectors)):
        rest = [a for a in range(len(vectors)) if a != i]
        log_share = torch.log_softmax(vectors[i] @ vectors[rest].T / 0.1, dim=0)
        mine = [log_share[k].item() for k, a in enumerate(rest) if labels[a] == labels[i]]
        if mine:
            costs.append(-sum(mine) / len(mine))

    expected = sum(costs) / len(costs) if costs else 0
    assert sup_con(vectors, labels, 0.1).item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25)
@given(seeds)
def test_the_order_of_a_batch_means_nothing(seed):
    """Every loss is the same for the same texts in another order."""
    vectors, labels = drawn(seed)
    other, _ = drawn(seed + 1)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(vectors)))
    losses = (
        lambda v, p, y: info_nce(v, p, 0.1).mean(),
        lambda v, p, y: info_nce(v, p, 0.1, y).mean(),
        lambda v, p, y: sup_con(v, y, 0.1),
        lambda v, p, y: margin_loss(v, y, 0.2),
        lambda v, p, y: distillation(v, p, 0.1),
    )
    for loss in losses:
        straight, mixed = (
            loss(vectors, other, labels),
            loss(vectors[order], other[order], labels[order]),
        )
        assert mixed.item() == pytest.approx(straight.item(), abs=1e-9)


def test_losses_without_pairs_have_a_finite_gradient():
    """A batch in which every text is alone in its class costs 0 and pulls nowhere."""
    vectors = torch.eye(3).requires_grad_()
    loss = sup_con(vectors, torch.arange(3), 0.1) + margin_loss(vectors, torch.arange(3), 0.2)
    loss.backward()

    assert loss.item() == 0
    assert not vectors.grad.any()


def test_distillation_by_hand():
    """Three texts: each has two others, and the divergence is that of two coin tosses."""
    vectors = F.normalize(torch.tensor([[1.0, 0.2], [0.3, 1.0], [1.0, 1.0]]), dim=-1).double()
    teacher = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.2]]), dim=-1).double()
    expected = 0.0
    for i, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):
        q = torch.softmax(teacher[[a, b]] @ teacher[i] / 0.5, dim=0)
        p = torch.softmax(vectors[[a, b]] @ vectors[i] / 0.5, dim=0)
        expected += (q * (q / p).log()).sum().item() / 3

    assert distillation(vectors, teacher, 0.5).item() == pytest.approx(expected, abs=1e-6)
    assert distillation(teacher, teacher, 0.5).item() == pytest.approx(0, abs=1e-9)


def test_each_text_has_its_own_prefix():
    """Of one batch a text with j = 1 is left with one block and one with j = 4 with all four."""
    lengths = torch.tensor([1, 4, 1])

    assert first_blocks(lengths, 4).sum(dim=1).tolist() == [1, 4, 1]
    cut = cut_at_mode(lengths, 4)  # the original's tables: the mode of 1, 4, 1 rules them all
    assert first_blocks(cut, 4).sum(dim=1).tolist() == [1, 1, 1]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=16))
def test_cutting_at_the_mode_lengthens_nothing(lengths):
    """No prefix grows, none passes the mode, and the commonest length stays as it is."""
    given_, cut = torch.tensor(lengths), cut_at_mode(torch.tensor(lengths), 4)
    mode = min(range(1, 5), key=lambda j: (-lengths.count(j), j))

    assert torch.equal(cut, given_.clamp(max=mode))


def test_draws_have_the_shares_asked_for():
    """Lengths and kept blocks come as often as their settings say."""
    generator = torch.Generator().manual_seed(0)
    lengths = draw_lengths(20_000, torch.tensor([0.4, 0.3, 0.2, 0.1]), generator)
    kept = draw_blocks(20_000, torch.tensor([0.95, 0.9, 0.8, 0.7]), generator)

    shares = lengths.bincount(minlength=5)[1:] / 20_000
    assert shares.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.015)
    assert kept.float().mean(dim=0).tolist() == pytest.approx([0.95, 0.9, 0.8, 0.7], abs=0.015)
