"""A small pool in which two stakeholders agree and one does not."""

from __future__ import annotations

import numpy as np

from train.preference.space import Space

WEIGHTS = {
    "user": np.array([1.0, 0.5, -0.2, 0.0]),
    "platform": np.array([0.9, 0.7, 0.0, 0.1]),
    "diversity": np.array([-1.0, -0.4, 0.3, 0.1]),
}


def planted(num: int = 200, seed: int = 0) -> Space:
    """Items with four features in [0, 1], of five topics."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (num, 4))
    return Space.of("planted", features, rng.integers(0, 5, num), WEIGHTS, ("a", "b", "c", "d"))
