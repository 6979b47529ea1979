"""The tables of a bundle, indexed, and with them what came since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import Facts
from pipelines.feed.services import Blend
from pipelines.schema import COUNTED
from serve.live.state import LiveState
from serve.models import version
from serve.stores.graph import GraphStore
from serve.stores.posts import PostStore
from serve.stores.profiles import ProfileStore
from serve.stores.users import UserStore
from serve.surfaces import SurfaceStores
from train.bundle import Bundle


@dataclass(frozen=True)
class Stores:
    """The tables of a bundle, indexed.

    Attributes:
        live: what came since the bundle was made; outlives bundles.
        posts: the bundle's and those that came since.
        facts: what models read of posts, of which the feed reads the as-of counts.
        engagement: how often posts were shown, liked and so on by an instant.
        blend: what predicted actions are worth.
        as_of_ms: newest event that the bundle knows.
        version: of the bundle.
        surfaces: what search, explore and conversations ask beyond that.
    """

    live: LiveState
    posts: PostStore
    profiles: ProfileStore
    graph: GraphStore
    users: UserStore
    facts: Facts
    engagement: Callable[[NDArray[np.int64], int], dict[str, NDArray]]
    blend: Blend
    as_of_ms: int
    version: str
    surfaces: SurfaceStores

    @classmethod
    def of(cls, bundle: Bundle, live: LiveState) -> Stores:
        """Index the tables of `bundle`; takes time and memory in proportion to them.

        From now on `live` adds to them what comes.
        """
        profiles, posts = ProfileStore(bundle.profiles), live.over(bundle.posts, bundle.as_of_ms)
        observed = bundle.card["observed_actions"]
        counted = {
            name: 1 + bundle.actions.index(action)
            for name, action in COUNTED.items()
            if action in observed
        }
        counts = partial(engagement, bundle.facts, counted, live)
        surfaces = SurfaceStores.of(bundle, posts, counts)
        live.tell(posts, surfaces)
        return cls(
            live=live,
            posts=posts,
            profiles=profiles,
            graph=GraphStore(bundle.follows, profiles),
            users=UserStore(bundle.users),
            facts=bundle.facts,
            engagement=counts,
            blend=Blend(
                actions=bundle.actions,
                own=bundle.weights,
                learned=np.isin(bundle.actions, observed),
                weights=bundle.weights,
            ),
            as_of_ms=bundle.as_of_ms,
            version=version(bundle),
            surfaces=surfaces,
        )


def engagement(
    facts: Facts,
    counted: Mapping[str, int],
    live: LiveState,
    post_id: NDArray[np.int64],
    at_ms: int,
) -> dict[str, NDArray]:
    """What `Services.engagement` promises: the bundle's counts, and what was done since.

    How often a post was shown is known of the bundle's time alone.

    Args:
        facts: of the bundle.
        counted: column of its counts for each of `COUNTED` that its log observes.
        live: what was done since.
        post_id: [C].
        at_ms: the instant.
    """
    unknown = np.full(len(post_id), -1)
    found = dict.fromkeys(("num_views", *COUNTED), unknown)
    if "post" in facts.rates:
        counts = facts.rates["post"].before(post_id, np.full(len(post_id), at_ms)).astype(np.int64)
        found["num_views"] = counts[:, 0]
        found |= {name: counts[:, column] for name, column in counted.items()}
    since = live.counts.of(post_id, at_ms)
    for at, name in enumerate(COUNTED):
        more = since[:, at]
        found[name] = np.where(more > 0, np.maximum(found[name], 0) + more, found[name])
    return found
