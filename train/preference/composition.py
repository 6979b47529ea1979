"""Whether weights for a mixture of stakeholders are composed from each one's own.

As published: pairs of a mixture are drawn from the stakeholders' pairs, each time from one who is
drawn by the mixture's shares; weights learned from those are held against what can be made of the
stakeholders' own learned weights without learning again.

Axes: M mixtures, K stakeholders, N pairs, D features.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.preference.frontier import hypervolume
from train.preference.goodhart import MANY
from train.preference.pairs import Pairs, sample, split
from train.preference.selection import frontier
from train.preference.space import Space, cosine
from train.preference.training import FitConfig, fit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEED = 42  # of the stakeholders' pairs; of mixture i its place more
_STEPS = 5  # a mixture's shares are multiples of a fifth
_BELOW = 0.01  # the worst value of any frontier, where volumes begin


def mixtures(num: int) -> dict[int, Floats]:
    """Shares of stakeholders in multiples of a fifth, by place in the whole grid. [K] each.

    Those of one stakeholder alone have a place but are left out.
    """
    grid = [m for m in product(range(_STEPS + 1), repeat=num) if sum(m) == _STEPS]
    return {at: np.array(m) / _STEPS for at, m in enumerate(grid) if max(m) < _STEPS}


def mixed_pairs(own: Pairs, shares: Floats, order: list[int], seed: int) -> tuple[Ints, Ints]:
    """Pairs of a mixture: for each a stakeholder by its share, then one of their pairs.

    Args:
        own: pairs of one seed, labelled by every stakeholder.
        shares: of the stakeholders in `order`. [K].
        order: rows of the stakeholders, by name.
        seed: of the draws.

    Returns:
        Preferred and rejected items, int64 [N].
    """
    rng, num = np.random.default_rng(seed), own.first.shape[1]
    preferred, rejected = np.empty(num, np.int64), np.empty(num, np.int64)
    for at in range(num):
        who, pair = order[rng.choice(len(order), p=shares)], int(rng.integers(0, num))
        two = own.first[0, pair], own.second[0, pair]
        first = own.prefers_first[0, who, pair]
        preferred[at], rejected[at] = two if first else two[::-1]
    return preferred, rejected


def composition(
    space: Space, config: FitConfig | None = None, num_pairs: int = MANY
) -> dict[str, Any]:
    """Weights learned for mixtures against composed ones, and the frontiers of both.

    Always by Bradley-Terry: a mixture has no worth to calibrate to and no rule of its own.

    Returns:
        mixtures; mean and least cosine of a mixture's learned weights to their projection on the
        span of the stakeholders' own, and how many are above 0.95; hypervolumes, relative to that
        of the learned ones, of own weights summed by the mixtures' shares (`composed`), of the
        projections and of the plain mean of own weights.
    """
    plain = (config or FitConfig()).model_copy(update={"loss": "bt"})
    order = sorted(range(len(space.stakeholders)), key=lambda k: space.stakeholders[k])
    pairs = sample(space.utility, num_pairs, (SEED,))
    own = fit(space, split(pairs, (SEED,))[0], plain)[0]
    shares = mixtures(len(order))
    seeds = [SEED + at for at in shares]
    drawn = [mixed_pairs(pairs, m, order, SEED + at) for at, m in shares.items()]
    first, second = (np.stack(side) for side in zip(*drawn, strict=True))
    mixed = Pairs(first, second, np.ones((len(seeds), 1, num_pairs), bool))
    learned = fit(space, split(mixed, seeds)[0], plain, labellers=[0])[:, 0]
    projected = _projected(learned, own)
    alike = cosine(learned, projected)
    made = {
        "composed": np.stack(list(shares.values())) @ own[order],
        "projected": projected,
        "mean": own.mean(axis=0, keepdims=True),
    }
    return {
        "mixtures": len(shares),
        "cosine_mean": float(alike.mean()),
        "cosine_min": float(alike.min()),
        "above_0.95": int((alike > 0.95).sum()),
        **_volumes(space, learned, made),
    }


def _projected(vectors: Floats, onto: Floats) -> Floats:
    """Each row's nearest point in the span of the rows of `onto`."""
    basis, _ = np.linalg.qr(onto.T)
    return vectors @ basis @ basis.T


def _volumes(space: Space, learned: Floats, made: dict[str, Floats]) -> dict[str, float]:
    every = {
        name: frontier(space, weights).reshape(-1, len(space.stakeholders))
        for name, weights in (("learned", learned), *made.items())
    }
    worst = np.concatenate(list(every.values())).min(axis=0) - _BELOW
    volume = {name: hypervolume(points, worst) for name, points in every.items()}
    return {f"hypervolume_{name}": volume[name] / volume["learned"] for name in made}
