"""The published interference field written the plain way, in NumPy: one viewer, every term.

Axes: n points of a history, C candidates, d width, K waves, S scales.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def by_scale(
    history: Array,
    amplitudes: Array,
    candidates: Array,
    waves: Array,
    scales: Array,
    envelope: bool = True,
) -> Array:
    """S_s of each candidate by the complex sum over all points and waves. [C, S]."""
    weights = amplitudes / amplitudes.sum()
    apart = candidates[:, None, :] - history[None, :, :]  # [C, n, d]
    along = apart @ waves.T  # [C, n, K]
    squares = (apart**2).sum(2)
    columns = []
    for scale in scales:
        field = np.exp(2j * np.pi * along / scale).mean(2)  # [C, n]
        fade = np.exp(-squares / (2 * scale**2)) if envelope else 1.0
        columns.append(2 * ((fade * field).real @ weights))
    return np.stack(columns, 1)


def two_nn(points: Array) -> float:
    """TwoNN's slope under the participation ratio, within 0.1 and d; points must differ."""
    n, d = points.shape
    if n < 3:
        return 1.0
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(2))
    np.fill_diagonal(apart, np.inf)
    first, second = np.sort(apart, 1)[:, :2].T
    ratios = np.sort(second / first).clip(1 + 1e-12)
    x = np.log(ratios)[:-1]
    y = -np.log(1 - np.arange(1, n) / n)
    variances = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    cap = variances.sum() ** 2 / (variances**2).sum()
    return float(np.clip(min((x @ y) / (x @ x), cap), 0.1, d))


def scale_weights(ratio: float, num_scales: int, beta: float = 1.0) -> Array:
    """2^-(s-1), raised by β ρ towards the last scale; they sum to 1."""
    order = np.arange(num_scales)
    weights = 0.5**order * (1 + beta * ratio * order / max(num_scales - 1, 1))
    return weights / weights.sum()


def total(scales: Array, weights: Array, ratio: float, eta: float = 0.75) -> Array:
    """The weighted sum [C]; what is negative grows."""
    raw = scales @ weights
    return np.where(raw < 0, (1 + eta * (1 - ratio)) * raw, raw)


def base_scale(history: Array) -> float:
    """Twice the median of the positive distances, within 0.05 and 10; 1 without any."""
    apart = np.sqrt(((history[:, None] - history[None]) ** 2).sum(2))
    apart = apart[np.triu_indices(len(history), 1)]
    apart = apart[apart > 1e-12]
    return float(np.clip(2 * np.median(apart), 0.05, 10)) if len(apart) else 1.0


def num_boxes(points: Array, side: float) -> int:
    """Boxes with a point in them, of points scaled to the unit cube."""
    span = np.ptp(points, axis=0)
    unit = ((points - points.min(0)) / np.where(span > 0, span, 1))[:, span > 0]
    boxes = np.minimum(np.floor(unit / side), np.ceil(1 / side) - 1)
    return len({tuple(box) for box in boxes})


def box_slope(counts: NDArray[np.int64]) -> float:
    """Slope of the log of counts at sides 1/2, 1/4, ..., at least 0."""
    powers = np.log(2) * np.arange(1, len(counts) + 1)
    return max(0.0, float(np.polyfit(powers, np.log(counts), 1)[0])) if np.ptp(counts) else 0.0
