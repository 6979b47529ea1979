"""Events of the profiles that have a time: what was shown while the log was kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.diagnostics.tally import LATELY_H, LONG_S, QUICK_S, WINDOW_H
from pipelines.encoding import HOUR_MS, multi_hot
from pipelines.facts import find
from serve.stores.bundle import Stores

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """Dated events of the profiles. [E] each; -1 = not in the bundle."""

    user_id: Ids
    post: Ids  # place among the posts
    author: Ids  # place among the authors
    surface: Ids
    worth: Floats  # sum of the positive weights of what was done
    dwell_s: Floats  # NaN = not measured
    at_ms: Ids

    @classmethod
    def of(cls, stores: Stores, post_id: Ids, author: Ids, as_of_ms: int) -> Events:
        """Those until `as_of_ms`.

        Args:
            stores: hold the profiles.
            post_id: sorted. [N].
            author: place of each post's author, -1 = unknown. [N].
            as_of_ms: end of the log.
        """
        events = stores.profiles.events()
        dated = (events["at_ms"] > 0) & (events["at_ms"] <= as_of_ms)
        columns = {name: values[dated] for name, values in events.items()}
        post = find(columns["post_id"], post_id)
        weight = np.maximum(stores.blend.own, 0)
        return cls(
            user_id=columns["user_id"],
            post=post,
            author=np.where(post >= 0, author[post], -1),
            surface=columns["surface"].astype(np.int64),
            worth=multi_hot(columns["did"], len(weight)).astype(np.float64) @ weight,
            dwell_s=columns["dwell_s"].astype(np.float64),
            at_ms=columns["at_ms"],
        )

    def masks(self, to_ms: int) -> dict[str, NDArray[np.bool_]]:
        """Which events count for which field of Tally, of a log that ends at `to_ms`. [E] each."""
        age_ms = to_ms - self.at_ms
        return {
            "stays": ~np.isnan(self.dwell_s),
            "quick": self.dwell_s < QUICK_S,
            "long": self.dwell_s > LONG_S,
            "window": age_ms < WINDOW_H * HOUR_MS,
            "lately": age_ms < LATELY_H * HOUR_MS,
        }
