"""Learns stakeholders' weights from their pairs: Adam over all seeds and stakeholders at once.

Runs of one call share their number of pairs, and so the order of their minibatches: one tensor
holds the weights of all, and a step is a few matrix products. Two runs of it never touch.

Axes: S seeds, K stakeholders, N pairs, B pairs of a minibatch, C items, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from configs import Config
from train.preference.losses import (
    Loss,
    bradley_terry,
    calibrated_bradley_terry,
    margin_bradley_terry,
    penalty,
)
from train.preference.pairs import Pairs, sample, split
from train.preference.space import Space

Floats = NDArray[np.float64]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of Adam (Kingma and Ba 2015)


class FitConfig(Config):
    """How weights are learned."""

    loss: Loss = "bt"
    lr: PositiveFloat = 0.01
    num_epochs: PositiveInt = 50
    num_steps: PositiveInt | None = None  # instead of epochs: as many as it takes
    batch_size: PositiveInt = 64  # the last, smaller one of an epoch counts too
    l2: NonNegativeFloat = 0.001  # times the squared norm
    order_seed: NonNegativeInt = 42  # of the minibatches' order, the same in all runs
    margin: float = 0.5
    temperature: PositiveFloat = 0.1  # of the margin
    calibration: NonNegativeFloat = 1.0  # weight of the calibrated loss's squared errors
    constraint: NonNegativeFloat = 10.0  # weight of the constrained loss's penalty


def fit(
    space: Space,
    pairs: Pairs,
    config: FitConfig | None = None,
    labellers: Sequence[int] | None = None,
) -> Floats:
    """Weights that explain the pairs.

    Args:
        space: whose features; its stakeholders matter to calibrated and constrained losses only.
        pairs: to learn from.
        config: how.
        labellers: stakeholder of the space behind each row of pairs; None = its own, in order.

    Returns:
        float64 [S, K, D], and finite.

    Raises:
        ValueError: a constrained loss where features are not actions.
    """
    config = config or FitConfig()
    features = torch.from_numpy(space.features)
    one, two = (features[torch.from_numpy(at)] for at in (pairs.first, pairs.second))  # [S, N, D]
    gap_alone = config.loss != "calibrated"  # then a product with the difference will do
    sides = [one - two] if gap_alone else [one, two]
    swapped = torch.from_numpy(~pairs.prefers_first)
    num_seeds, num_labels, num_pairs = swapped.shape
    who = list(range(num_labels)) if labellers is None else list(labellers)
    loss_of = _loss(space, pairs, config, who)
    weights = torch.from_numpy(np.tile(space.start, (num_seeds, num_labels, 1)))
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    nothing = weights.new_zeros(())
    for step, rows in enumerate(_batches(num_pairs, config), start=1):
        weights.requires_grad_(True)
        scores = [torch.bmm(weights, side[:, rows].transpose(1, 2)) for side in sides]
        turned = swapped[:, :, rows]
        if gap_alone:
            preferred, rejected = torch.where(turned, -scores[0], scores[0]), nothing
        else:
            preferred = torch.where(turned, scores[1], scores[0])
            rejected = torch.where(turned, scores[0], scores[1])
        loss = loss_of(preferred, rejected, weights, rows, turned)
        (gradient,) = torch.autograd.grad(loss.sum() + config.l2 * weights.square().sum(), weights)
        weights = weights.detach()
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square()
        root = (second / (1 - _BETAS[1] ** step)).sqrt() + _EPSILON
        weights = weights - config.lr * first / (1 - _BETAS[0] ** step) / root
    return weights.numpy()


def learn(
    space: Space,
    utility: Floats,
    num_pairs: int,
    seeds: Sequence[int],
    config: FitConfig | None = None,
    labellers: Sequence[int] | None = None,
) -> tuple[Floats, Floats]:
    """Draw pairs, learn from four fifths, test on the rest.

    Args:
        space: of the items.
        utility: by which pairs are labelled, [K, C] or [S, K, C].
        num_pairs: drawn, those to test on among them.
        seeds: one a run.
        config: how to learn.
        labellers: as of `fit`.

    Returns:
        Weights [S, K, D] and the share of held-out pairs told right [S, K].
    """
    known, held_out = split(sample(utility, num_pairs, seeds), seeds)
    weights = fit(space, known, config, labellers)
    return weights, accuracy(space.features, weights, held_out)


def accuracy(features: Floats, weights: Floats, pairs: Pairs) -> Floats:
    """Share of pairs whose preferred item scores higher. [S, K]; NaN without pairs."""
    if not pairs.first.shape[1]:
        return np.full(weights.shape[:2], np.nan)
    gap = features[pairs.first] - features[pairs.second]  # [S, N, D]
    scores = weights @ gap.transpose(0, 2, 1)
    return ((scores > 0) == pairs.prefers_first).mean(axis=2)


def perturbed(weights: Floats, sigma: float, seeds: Sequence[int]) -> Floats:
    """Weights as a stakeholder would say them wrongly: w (1 + eps), eps ~ N(0, sigma^2).

    Every stakeholder of one seed is off by the same factors. [K, D] -> [S, K, D].
    """
    size = weights.shape[1]
    eps = np.stack([np.random.default_rng(seed).normal(0, sigma, size) for seed in seeds])
    return weights * (1 + eps[:, None, :])


def _batches(num_pairs: int, config: FitConfig) -> list[Tensor]:
    """Rows of each step. All runs of `num_pairs` see their pairs in this order."""
    rng, made = np.random.default_rng(config.order_seed), list[Tensor]()
    most = config.num_steps
    epochs = config.num_epochs if most is None else most
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(num_pairs))
        made += order.split(config.batch_size)
        if most is not None and len(made) >= most:
            return made[:most]
    return made


_Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _loss(space: Space, pairs: Pairs, config: FitConfig, who: list[int]) -> _Loss:
    """The loss of each run: (preferred, rejected, weights, rows, swapped) -> [S, K]."""
    if config.loss == "margin":
        return lambda p, r, *_: margin_bradley_terry(p, r, config.margin, config.temperature)
    if config.loss == "calibrated":
        worth = torch.from_numpy(space.worth[who])
        one, two = (
            worth[:, torch.from_numpy(at)].transpose(0, 1) for at in (pairs.first, pairs.second)
        )

        def calibrated(p: Tensor, r: Tensor, _: Tensor, rows: Tensor, swapped: Tensor) -> Tensor:
            a, b = one[:, :, rows], two[:, :, rows]
            worths = torch.where(swapped, b, a), torch.where(swapped, a, b)
            return calibrated_bradley_terry(p, r, *worths, config.calibration)

        return calibrated
    if config.loss == "constrained":
        if not space.negative.any():
            raise ValueError(f"loss: constrained: the features of {space.name} are no actions")
        negative = torch.from_numpy(space.negative)
        names = [space.stakeholders[at] for at in who]

        def constrained(p: Tensor, r: Tensor, w: Tensor, *_: Tensor) -> Tensor:
            rules = [penalty(name, w[:, at], negative) for at, name in enumerate(names)]
            return bradley_terry(p, r) + config.constraint * torch.stack(rules, dim=1)

        return constrained
    return lambda p, r, *_: bradley_terry(p, r)
