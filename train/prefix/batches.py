"""Which texts are trained on together, and which are kept to validate.

Axes: N texts, B of a batch, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def validation_rows(labels: NDArray[np.int64], share: float, seed: int) -> Rows:
    """A share of each class, at least one text; a class of a single text gives none.

    Args:
        labels: int64 [N, L]; a class is a row of them.
        share: rounded down.
        seed: draws which.

    Returns:
        Row numbers; classes one after the other, in the order in which they first occur.
    """
    rng = np.random.default_rng(seed)
    taken = []
    for rows in classes(labels):
        num = max(1, int(len(rows) * share)) if len(rows) > 1 else 0
        taken.append(rng.permutation(rows)[:num])
    return np.concatenate(taken)


def classes(labels: NDArray[np.int64]) -> list[Rows]:
    """Rows of each distinct row of `labels` [N, L], by first occurrence."""
    _, first, of = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(of.ravel(), kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(of.ravel()))[:-1])
    return [groups[at] for at in np.argsort(first)]


class Partners:
    """Draws for each text another of its class."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        """Of one level: int64 [N]."""
        self.order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels)
        self.first = (np.cumsum(counts) - counts)[labels]
        self.count = counts[labels]
        self.place = np.empty(len(labels), np.int64)
        self.place[self.order] = np.arange(len(labels))

    def draw(self, rng: np.random.Generator) -> Rows:
        """One for each text, uniformly; itself if it is alone. int64 [N]."""
        step = 1 + rng.integers(0, np.maximum(self.count - 1, 1))
        return self.order[self.first + (self.place - self.first + step) % self.count]


def shuffled(num: int, batch_size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """One epoch in random order; what does not fill a batch is left out."""
    order = rng.permutation(num)
    for at in range(0, num - batch_size + 1, batch_size):
        yield order[at : at + batch_size]


def balanced(
    labels: NDArray[np.int64], batch_size: int, per_class: int, rng: np.random.Generator
) -> Iterator[Rows]:
    """One epoch in which texts of a class come `per_class` together, so that all have positives.

    Every text comes once but those that do not fill the last batch.

    Args:
        labels: int64 [N, L]; a class is a row of them.
        batch_size: of each batch; one batch of all if they are fewer.
        per_class: texts in a group; the last group of a class may be smaller.
        rng: draws the order.
    """
    groups = []
    for rows in classes(labels):
        rows = rng.permutation(rows)
        groups += [rows[at : at + per_class] for at in range(0, len(rows), per_class)]
    order = np.concatenate([groups[at] for at in rng.permutation(len(groups))])
    batch_size = min(batch_size, len(order))
    for at in range(0, len(order) - batch_size + 1, batch_size):
        yield order[at : at + batch_size]
