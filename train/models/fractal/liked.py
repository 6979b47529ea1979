"""The field that the posts send which a viewer liked, from vectors of posts.

Axes: A actions, n posts that send waves, C candidates, S scales, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Interference
from pipelines.schema import ACTIONS
from train.models.fractal.combination import combined, scale_weights, suppression
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import fit

# Settings that only say how the scales are added up: the parts of the field are the same.
_COMBINING = ("scale_weights", "dimension_weight", "destructive_gain")


@dataclass(frozen=True)
class Parts:
    """What adds to a viewer's field and what takes from it.

    Attributes:
        constructive, destructive: at least and at most 0, longest waves first. float32 [C, S].
        dimension: of the posts that send waves.
        ratio: the same over the vectors' width.
    """

    constructive: NDArray[np.float32]
    destructive: NDArray[np.float32]
    dimension: float
    ratio: float

    def total(self, config: FieldConfig) -> NDArray[np.float64]:
        """The field at each candidate. float64 [C]."""
        by_scale = torch.from_numpy(self.constructive) + torch.from_numpy(self.destructive)
        ratio = torch.tensor([self.ratio], dtype=torch.float64)
        weights, multiplier = scale_weights(ratio, config), suppression(ratio, config)
        return combined(by_scale[None], weights, multiplier)[0].double().numpy()

    def told(self, config: FieldConfig, alpha: float) -> Interference:
        """What a feed is told of it, where a field of 1 is worth `alpha`."""
        return Interference(
            total=self.total(config),
            constructive=self.constructive.astype(np.float64),
            destructive=self.destructive.astype(np.float64),
            dimension=self.dimension,
            ratio=self.ratio,
            alpha=alpha,
        )


def parts_key(config: FieldConfig) -> FieldConfig:
    """The settings without those that only combine: equal iff `parts` are."""
    plain = FieldConfig()
    return config.model_copy(update={name: getattr(plain, name) for name in _COMBINING})


def signs(weights: NDArray[np.float64]) -> tuple[int, int]:
    """Bits of the actions of positive and of negative weight, as in `History.did`."""
    known = weights[: len(ACTIONS)]
    return _mask(known > 0), _mask(known < 0)


def liked(history: History, good: int, bad: int, most: int) -> NDArray[np.int64]:
    """The newest posts with one of the good actions and none of the bad, oldest first. [n]."""
    chosen = ((history.did & good) != 0) & ((history.did & bad) == 0)
    return history.post_id[chosen][-most:]


def parts(vectors: NDArray[np.float32], num_sources: int, config: FieldConfig) -> Parts:
    """The field of the first rows at all others; 0 for candidates without a vector.

    Args:
        vectors: of the posts that send waves, oldest first, then of the candidates; zeros = none.
            [n + C, D].
        num_sources: n.
        config: of the field.
    """
    if not vectors.shape[1]:  # no post has any
        vectors = np.zeros((len(vectors), 1), np.float32)
    both = torch.from_numpy(vectors)[None]
    field = fit(both[:, :num_sources], config=config)
    adds, takes = field.parts(both[:, num_sources:])
    return Parts(
        adds[0].numpy(),
        takes[0].numpy(),
        float(field.dimension.value[0]),
        float(field.dimension.ratio[0]),
    )


def _mask(chosen: NDArray[np.bool_]) -> int:
    return sum(1 << int(bit) for bit in np.flatnonzero(chosen))
