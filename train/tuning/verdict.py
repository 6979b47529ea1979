"""What tuning was worth: each setting put back, and the test days, with intervals over viewers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.intervals import bootstrap_interval
from train.tuning.blended import groups, switched_off
from train.tuning.pages import Measured, Pages


@dataclass(frozen=True)
class Row:
    """A measure with and without a change, over the requests of which both can tell.

    `interval` is of the difference, 95 %, over viewers.
    """

    before: float
    after: float
    difference: float
    interval: tuple[float, float]
    num_requests: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare(viewer: NDArray[np.int64], before: Measured, after: Measured) -> dict[str, Row]:
    """Each measure of the same requests, made twice."""
    return {name: _row(viewer, before[name], after[name]) for name in before}


def sensitivity(
    pages: Pages, settings: Mapping[str, Any], objective: str
) -> dict[str, dict[str, Row | None]]:
    """What is lost when one setting alone goes back, all others as tuned.

    Args:
        pages: to measure.
        settings: as tuned.
        objective: the measure.

    Returns:
        Setting -> "default", it as untuned, and "off", without what it weighs; None = there is no
        such thing as off.
    """
    tuned = pages.measure_all(settings)[objective]

    def row(changed: Mapping[str, Any]) -> Row:
        return _row(pages.viewer, tuned, pages.measure_all(changed)[objective])

    found: dict[str, dict[str, Row | None]] = {}
    for group, names in groups(settings).items():
        rest = {name: value for name, value in settings.items() if name not in names}
        off = switched_off(names[0], settings)
        found[group] = {"default": row(rest), "off": None if off is None else row(off)}
    return found


def _row(viewer: NDArray[np.int64], before: NDArray, after: NDArray) -> Row:
    told = np.isfinite(before) & np.isfinite(after)
    if not told.any():
        nan = float("nan")
        return Row(nan, nan, nan, (nan, nan), 0)
    one, other = before[told], after[told]
    change = other - one
    interval = bootstrap_interval(viewer[told], lambda weight: np.average(change, weights=weight))
    return Row(
        float(one.mean()), float(other.mean()), float(change.mean()), interval, int(told.sum())
    )
