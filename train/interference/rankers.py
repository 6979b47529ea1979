"""What ranks candidates by a viewer's history: the field, and what it must be held against.

Axes: V viewers, n posts of a history, C candidates, S scales, P posts, F numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from train.interference.ratings import Floats
from train.interference.split import Split
from train.models.fractal.combination import combined, scale_weights, suppression
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import fit

MOST = 100  # newest liked posts that send waves
TOP = 5
_VIEWERS = 16  # at once


@dataclass(frozen=True)
class FieldScores:
    """The fields of many viewers at their candidates.

    Attributes:
        config: of the fields.
        by_scale: longest wave first. float64 [V, C, S].
        dimension: of each history. float64 [V].
        ratio: the same over the vectors' width. float64 [V].
        disliked: as by_scale, of the sources with negative amplitude; None unless signed.
    """

    config: FieldConfig
    by_scale: Floats
    dimension: Floats
    ratio: Floats
    disliked: Floats | None = None

    def weights(self, num_scales: int | None = None) -> Floats:
        """Of the first scales, as a field of so many has them; all by default. [V, S]."""
        config = self.config.model_copy(update={"num_scales": num_scales or self.config.num_scales})
        return scale_weights(torch.from_numpy(self.ratio), config).numpy()

    def total(self, num_scales: int | None = None) -> Floats:
        """Weighted sum of the first scales, all by default. [V, C]."""
        growth = suppression(torch.from_numpy(self.ratio), self.config)
        scales = torch.from_numpy(self.by_scale[:, :, :num_scales])
        return combined(scales, torch.from_numpy(self.weights(num_scales)), growth).numpy()


def field(vectors: NDArray, split: Split, config: FieldConfig, most: int = MOST) -> FieldScores:
    """The field that each viewer's newest liked posts send.

    Args:
        vectors: of all posts; the field is computed in their dtype. [P, F].
        split: whose histories and candidates.
        config: of the field.
        most: posts of a history that send waves.
    """
    newest = split.newest(most)
    lengths = newest.lengths
    parts = []
    for first in range(0, len(lengths), _VIEWERS):
        rows = slice(first, first + _VIEWERS)
        history, num = newest.history[rows], torch.from_numpy(lengths[rows])
        made = fit(
            torch.from_numpy(vectors[history]),
            torch.from_numpy(newest.amplitude[rows].astype(vectors.dtype)),
            num,
            config=config,
        )
        scores = made.score(torch.from_numpy(vectors[newest.candidates[rows]]))
        away = scores.disliked if scores.disliked is not None else scores.by_scale[:, :, :0]
        parts.append((scores.by_scale, made.dimension.value, made.dimension.ratio, away))
    joined = [torch.cat(of).double().numpy() for of in zip(*parts, strict=True)]
    by_scale, dimension, ratio, away_from = joined
    return FieldScores(config, by_scale, dimension, ratio, away_from if config.signed else None)


def cosine(vectors: NDArray, split: Split) -> Floats:
    """To the weighted mean of the whole history. [V, C]."""
    mean = profiles(vectors, split)
    near = np.einsum("vcf,vf->vc", unit_of(vectors)[split.candidates], mean)
    return near / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def dot(vectors: NDArray, split: Split) -> Floats:
    """Product with the weighted mean of the whole history. [V, C]."""
    return np.einsum("vcf,vf->vc", vectors[split.candidates], profiles(vectors, split))


def profiles(vectors: NDArray, split: Split) -> Floats:
    """Weighted mean of each history. [V, F]."""
    total = np.maximum(split.amplitude.sum(1, keepdims=True), 1e-12)
    return np.einsum("vn,vnf->vf", split.amplitude / total, vectors[split.history])


def unit_of(vectors: NDArray) -> NDArray:
    """Vectors over their lengths, floored at 1e-12."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(vectors: NDArray, split: Split, num: int) -> Floats:
    """Mean cosine of the `num` posts of the history that are nearest to a candidate. [V, C]."""
    vectors = unit_of(vectors)
    found = np.empty(split.candidates.shape)
    for row, (history, length) in enumerate(zip(split.history, split.lengths, strict=True)):
        near = vectors[split.candidates[row]] @ vectors[history[:length]].T
        found[row] = np.sort(near, axis=1)[:, -num:].mean(1)
    return found


def popular(split: Split) -> Floats:
    """Likes that may be learned from. [V, C]."""
    return split.popularity[split.candidates].astype(np.float64)


def drawn(split: Split, seed: int) -> Floats:
    """An order at random. [V, C]."""
    return np.random.default_rng(seed).random(split.candidates.shape)


KERNEL = FieldConfig(phase=False)  # four Gaussian kernels, of 2 to 1/4 of the median distance


def beside(vectors: NDArray, split: Split, most: int = MOST) -> dict[str, Callable[[], Floats]]:
    """Rankers without waves, by name."""
    kernels = cache(lambda: field(vectors, split, KERNEL, most))
    return {
        "cosine": lambda: cosine(vectors, split),
        "nearest": lambda: nearest(vectors, split, 1),
        f"nearest {TOP}": lambda: nearest(vectors, split, TOP),
        "kernels": lambda: kernels().total(),
        "kernel, ¼ median": lambda: kernels().by_scale[:, :, 3],
    }
