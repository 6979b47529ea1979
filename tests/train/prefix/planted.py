"""Texts whose vectors have a coarse and a fine structure that a head must find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.prefix.objectives import FitConfig, condition

NUM_COARSE, FINE_EACH, SIZE = 4, 5, 32


def planted(num: int = 800, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features [num, 32], mostly noise, and labels [num, 2]: 4 coarse classes of 5 fine ones.

    Coarse classes are not blobs: their fine classes lie anywhere, so that labels must teach them.
    """
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(NUM_COARSE * FINE_EACH, SIZE))
    fine = rng.integers(0, len(centres), num)
    features = centres[fine] + 0.9 * rng.normal(size=(num, SIZE))
    return features.astype(np.float32), np.stack([fine // FINE_EACH, fine], axis=1)


def small(name: str, num_levels: int = 2, **changes: object) -> FitConfig:
    """A condition with narrow blocks and few epochs."""
    values = condition(name, num_levels, (8, 8, 8, 8)).model_dump(mode="json")
    return FitConfig.model_validate({**values, "num_epochs": 3, **changes})
