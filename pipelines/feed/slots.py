"""Places between the posts of a page for what is no post: whom to follow, a prompt, an ad.

The feed says where; what stands there is the client's business, but for whom to follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from configs import Config
from pipelines.feed.services import Blend, Graph

WHO_TO_FOLLOW = "who_to_follow"


class Slot(Config):
    """Where one kind of thing may stand, in `slots` of feed.yaml; earlier ones go first."""

    kind: str = Field(min_length=1)  # who_to_follow, or whatever the client knows
    position: NonNegativeInt  # posts above it
    every: PositiveInt | None = None  # again after so many posts; null = once a page
    min_posts_between: NonNegativeInt = 3  # posts between it and any other slot
    fatigue_s: NonNegativeFloat = 0.0  # seconds for which a viewer is not shown the kind again


@dataclass(frozen=True)
class Placed:
    """A slot of one page, below its first `position` posts."""

    kind: str
    position: int


def placed(
    slots: Sequence[Slot], num_posts: int, shown_ms: Mapping[str, int], now_ms: int
) -> list[Placed]:
    """The slots of a page of `num_posts` posts, top first.

    Positions hold: one that stands too close to another, or for which the page is too short, is
    left out and never moved.

    Args:
        slots: as in feed.yaml; of two that stand too close the earlier one stays.
        num_posts: of the page as it is served.
        shown_ms: kind -> when the viewer was last shown one, ms since 1970.
        now_ms: instant of the page.
    """
    taken: list[tuple[int, Slot]] = []
    for slot in slots:
        if now_ms - shown_ms.get(slot.kind, -(2**62)) < slot.fatigue_s * 1000:
            continue
        last = num_posts if slot.every else min(slot.position, num_posts)
        for position in range(slot.position, last + 1, slot.every or 1):
            if all(
                abs(position - other) >= max(slot.min_posts_between, its.min_posts_between)
                for other, its in taken
            ):
                taken.append((position, slot))
    # Stable: where no gap is asked for, several may share a position, in the order of feed.yaml.
    taken.sort(key=lambda one: one[0])
    return [Placed(slot.kind, position) for position, slot in taken]


def who_to_follow(context: Mapping[str, Any], user_id: int, num: int) -> NDArray[np.int64]:
    """Authors whom the viewer likes and does not follow, the best first. int64 [at most num].

    An author is worth the weights of all that the viewer did to their posts. Nobody is suggested
    whom the viewer blocks, mutes, or ever did something to that weighs less than nothing. Of a
    viewer whose history, graph or weights are not known: nobody.
    """
    history, graph, blend = (context.get(name) for name in ("history", "graph", "blend"))
    if history is None or not isinstance(graph, Graph) or not isinstance(blend, Blend):
        return np.empty(0, np.int64)
    author_id, author = np.unique(history.author_id, return_inverse=True)
    did = history.did[:, None] >> np.arange(len(blend.actions)) & 1 > 0
    weights = np.where(np.isin(blend.actions, ("dwell_time",)), 0.0, blend.weights)
    worth = np.bincount(author, did @ weights, len(author_id))
    spurned = np.bincount(author, did @ (weights < 0), len(author_id)) > 0
    known = np.concatenate([graph.followed, graph.blocked, graph.muted, [0, user_id]])
    fit = (worth > 0) & ~spurned & ~np.isin(author_id, known)
    best = np.flatnonzero(fit)[np.argsort(-worth[fit], kind="stable")]
    return author_id[best[:num]]
