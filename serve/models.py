"""The models of a bundle as calls, wherever they run: in this process or behind Ray handles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Hits, Interference, Space, Zoom
from train.bundle import Bundle


@dataclass(frozen=True)
class Search:
    """Find `num_posts` posts near one viewer as of `at_ms`, on one of `topic_ids` if any."""

    history: History
    num_posts: int
    at_ms: int
    topic_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Compare one viewer as of `at_ms` with a post."""

    history: History
    post_id: int
    at_ms: int


@dataclass(frozen=True)
class Nearby:
    """Find `num_posts` posts whose texts are near a post's, or near those that a viewer liked.

    `like` is the id of a post, which is not found itself, or what the viewer did.
    """

    like: History | int
    num_posts: int
    zoom: Zoom


@dataclass(frozen=True)
class Near:
    """Posts found, best first, and how they were found.

    Attributes:
        post_id: int64 [n].
        similarity: of what is asked, as `Services.near` says. float32 [n].
        coarse, fine: cosines of both parts. float32 [n].
        zoom: what was searched by; of "auto", what was chosen.
        dims_read: numbers compared, of all posts together.
        placed: whether there is anything to compare with.
        missing: as in `Hits`.
    """

    post_id: NDArray[np.int64]
    similarity: NDArray[np.float32]
    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    zoom: float
    dims_read: int
    placed: bool = True
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interfering:
    """Compute the field of one viewer's history at `post_id` [C]; None = as the bundle says."""

    history: History
    post_id: NDArray[np.int64]
    space: Space | None = None
    scale_weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Ranking:
    """Predict what one viewer would do with each of `post_id` [C] by `author_id` [C].

    `surface` is where they would be shown, 0 = unknown, and `at_ms` when.
    """

    history: History
    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    surface: int
    at_ms: int


async def _all_here() -> Mapping[str, Sequence[str]]:
    return {}


async def _no_problems() -> Mapping[str, Sequence[str]]:
    return {}


async def _unknown(_: Comparison) -> float | None:
    return None


async def _nothing_near(_: Nearby) -> Near:
    raise LookupError("these models have no prefix vectors")


async def _no_field(asked: Interfering) -> Interference:
    nothing = np.zeros((len(asked.post_id), 1))
    return Interference(nothing[:, 0], nothing, nothing, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Models:
    """The three models of a bundle, each one call away.

    `versions` asks what they are of: deployment -> bundle version of each of its replicas
    that answers in time; empty for models in this process, which are always of its bundle.
    `problems` asks what holds new posts up: deployment -> what each replica that has a problem
    says.
    `parts` are those deployments that hold a part of the posts each.
    `similarity` gives the inner product that `search` ranks by, of any post that it may find.
    `near` searches prefix vectors, if the bundle has any.
    `interference` gives the field at posts; 0 where there is none.
    """

    search: Callable[[Search], Awaitable[Hits]]
    rank: Callable[[Ranking], Awaitable[NDArray[np.float32]]]
    value: Callable[[NDArray[np.float32]], Awaitable[NDArray[np.float64]]]
    versions: Callable[[], Awaitable[Mapping[str, Sequence[str]]]] = _all_here
    similarity: Callable[[Comparison], Awaitable[float | None]] = _unknown
    problems: Callable[[], Awaitable[Mapping[str, Sequence[str]]]] = _no_problems
    near: Callable[[Nearby], Awaitable[Near]] = _nothing_near
    interference: Callable[[Interfering], Awaitable[Interference]] = _no_field
    parts: tuple[str, ...] = ()


def version(bundle: Bundle) -> str:
    """Tells bundles apart; metrics, which may be written later, do not count."""
    card = {name: value for name, value in bundle.card.items() if name != "metrics"}
    text = json.dumps(card, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
