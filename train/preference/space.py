"""What a study of stakeholders is about: items with features, and what each stakeholder wants.

Axes: C items, D features, K stakeholders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START = 0.1  # of every learned weight, unless a space says otherwise


@dataclass(frozen=True)
class Space:
    """A pool of items and linear utilities over it: U_k(c) = w_k . p(c).

    Attributes:
        name: of the data set.
        features: p(c). float64 [C, D].
        topic: of each item, for diversity; from 0. int64 [C].
        stakeholders: names, K of them.
        weights: what each is after. float64 [K, D].
        start: where learning begins. float64 [D].
        worth: 0 to 1, what a calibrated score of each item should be, for each stakeholder.
            float64 [K, C].
        feature_names: D of them.
        negative: features that are actions nobody wants; none where features are no actions.
            bool [D].
        bystanders: name -> weights of those who are measured too but never learned. float64 [D].
        story: of the data, for a report.
    """

    name: str
    features: Floats
    topic: Ints
    stakeholders: tuple[str, ...]
    weights: Floats
    start: Floats
    worth: Floats
    feature_names: tuple[str, ...]
    negative: NDArray[np.bool_]
    bystanders: Mapping[str, Floats] = field(default_factory=dict)
    story: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        features: Floats,
        topic: Ints,
        weights: Mapping[str, Floats],
        feature_names: tuple[str, ...],
        story: Mapping[str, object] | None = None,
        start: Floats | None = None,
        worth: Floats | None = None,
        negative: NDArray[np.bool_] | None = None,
        bystanders: Mapping[str, Floats] | None = None,
    ) -> Space:
        """The usual space: learning starts at START everywhere, and worth is utility, clipped.

        Raises:
            ValueError: weights of another width, or fewer than two items.
        """
        if len(features) < 2:
            raise ValueError(f"{name}: {len(features)} items; pairs need two at least")
        stacked = np.stack([np.asarray(w, np.float64) for w in weights.values()])
        if stacked.shape[1] != features.shape[1]:
            raise ValueError(
                f"{name}: {stacked.shape[1]} weights for {features.shape[1]} features of items"
            )
        return cls(
            name=name,
            features=features.astype(np.float64),
            topic=topic.astype(np.int64),
            stakeholders=tuple(weights),
            weights=stacked,
            start=np.full(features.shape[1], START) if start is None else start,
            worth=np.clip(stacked @ features.T, 0, 1) if worth is None else worth,
            feature_names=feature_names,
            negative=np.zeros(features.shape[1], bool) if negative is None else negative,
            bystanders=bystanders or {},
            story=story or {},
        )

    @property
    def utility(self) -> Floats:
        """U_k(c). [K, C]."""
        return self.weights @ self.features.T

    def with_bystanders(self) -> Space:
        """The same items with the bystanders behind the stakeholders."""
        if not self.bystanders:
            return self
        weights = np.stack(list(self.bystanders.values()))
        return replace(
            self,
            stakeholders=(*self.stakeholders, *self.bystanders),
            weights=np.concatenate([self.weights, weights]),
            worth=np.concatenate([self.worth, np.clip(weights @ self.features.T, 0, 1)]),
            bystanders={},
        )

    def of_stakeholder(self, name: str) -> int:
        """Its row.

        Raises:
            KeyError: there is none of that name; the text says which there are.
        """
        if name not in self.stakeholders:
            raise KeyError(f"{self.name}: no stakeholder {name!r} (have: {self.stakeholders})")
        return self.stakeholders.index(name)


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Short hash of numbers that results depend on."""
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:12]


def cosine(a: Floats, b: Floats) -> Floats:
    """Cosine along the last axis; NaN where a vector is all zeros."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=-1) / norms


def unit_max(weights: Floats) -> Floats:
    """Weights over the largest absolute one; all zeros stay."""
    largest = np.abs(weights).max(initial=0)
    return weights / largest if largest > 0 else weights
