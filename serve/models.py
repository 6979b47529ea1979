"""The models of a bundle as calls, wherever they run: in this process or behind Ray handles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Hits, Interference, Space
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


async def _unknown(_: Comparison) -> float | None:
    return None


async def _no_field(asked: Interfering) -> Interference:
    nothing = np.zeros((len(asked.post_id), 1))
    return Interference(nothing[:, 0], nothing, nothing, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Models:
    """The three models of a bundle, each one call away.

    `versions` asks what they are of: deployment -> bundle version of each of its replicas
    that answers in time; empty for models in this process, which are always of its bundle.
    `similarity` gives the inner product that `search` ranks by, of any post that it may find.
    """

    search: Callable[[Search], Awaitable[Hits]]
    rank: Callable[[Ranking], Awaitable[NDArray[np.float32]]]
    value: Callable[[NDArray[np.float32]], Awaitable[NDArray[np.float64]]]
    versions: Callable[[], Awaitable[Mapping[str, Sequence[str]]]] = _all_here
    similarity: Callable[[Comparison], Awaitable[float | None]] = _unknown
    interference: Callable[[Interfering], Awaitable[Interference]] = _no_field


def version(bundle: Bundle) -> str:
    """Tells bundles apart; metrics, which may be written later, do not count."""
    card = {name: value for name, value in bundle.card.items() if name != "metrics"}
    text = json.dumps(card, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
