"""All that the feed asks of the outside, as one Protocol.

A server answers with Ray handles and stores, a notebook or a replay with plain
objects in one process; the feed cannot tell. Every method may be slow and may
fail: the stage that calls it declares its time-out and what failure means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipelines.features import History
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Kind

By = Literal["words", "meaning"]  # what a text and a post may have in common
# From 0, what is about the same subject, to 1, what says the same; "auto" = by what is asked.
Zoom = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]
# Whose vectors of posts: the post tower's, the texts', or those of a prefix head of the texts'.
Space = Literal["two_tower", "content", "prefix"]


@dataclass(frozen=True)
class Hits:
    """Posts found by a source, best first.

    Attributes:
        post_id: int64 [n], no post twice.
        value: float [n], what the source ranks by, not increasing: similarity,
            popularity or publication time (which needs float64).
        missing: parts of the source that did not answer, so that their posts are not here.
    """

    post_id: NDArray[np.int64]
    value: NDArray[np.floating]
    missing: tuple[str, ...] = ()


def _nobody() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Graph:
    """Whom a viewer follows, blocks and mutes: sorted int64 ids; and words the viewer muted.

    Attributes:
        mutual: those of `followed` who follow the viewer.
        subscribed: whose posts for subscribers the viewer may see.
        muted_keywords: words or phrases, as the viewer wrote them.
        blocked_by: who blocks the viewer.
    """

    followed: NDArray[np.int64]
    blocked: NDArray[np.int64]
    muted: NDArray[np.int64]
    mutual: NDArray[np.int64] = field(default_factory=_nobody)
    subscribed: NDArray[np.int64] = field(default_factory=_nobody)
    muted_keywords: tuple[str, ...] = ()
    blocked_by: NDArray[np.int64] = field(default_factory=_nobody)


@dataclass(frozen=True)
class Viewer:
    """The account that asks.

    Attributes:
        num_followers: accounts that follow it, -1 = unknown.
        created_at_s: when it was registered, NaN = unknown.
    """

    num_followers: int
    created_at_s: float


@dataclass(frozen=True)
class Blend:
    """What predicted actions are worth to the feed.

    Attributes:
        actions: names in the order of the columns of `p_action`, A; schema.ACTIONS first.
        own: weight of each in `Services.value`. float64 [A].
        learned: whether the ranker learned it; others predict noise. bool [A].
        weights: those in use for this request. float64 [A].
    """

    actions: tuple[str, ...]
    own: NDArray[np.float64]
    learned: NDArray[np.bool_]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Interference:
    """The field of waves that a viewer's history sends, at each candidate.

    Attributes:
        total: 0 = no field, as of a viewer who liked nothing. float64 [C].
        constructive, destructive: what adds to and takes from it, per scale, longest waves
            first; at least and at most 0. float64 [C, S].
        dimension: of the history.
        ratio: the same over the vectors' width.
        alpha: worth of a field of 1, as the bundle says.
    """

    total: NDArray[np.float64]
    constructive: NDArray[np.float64]
    destructive: NDArray[np.float64]
    dimension: float
    ratio: float
    alpha: float


@dataclass(frozen=True)
class Served:
    """What a viewer's last pages held, oldest first.

    Attributes:
        post_id: a post served twice is here twice. int64 [n].
        author_id: 0 = unknown. int64 [n].
        topic_ids: 0 = no more. int64 [n, T].
        shown_at_ms: int64 [n], not decreasing.
    """

    post_id: NDArray[np.int64]
    author_id: NDArray[np.int64]
    topic_ids: NDArray[np.int64]
    shown_at_ms: NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Posts that were scored for a viewer's page, and may do for the next ones.

    Attributes:
        post_id: the best of them, best first. int64 [n].
        p_action: what was predicted of each. float32 [n, A].
        left_out: the others, sorted. int64 [m].
        at_ms: instant of that page, ms since 1970.
    """

    post_id: NDArray[np.int64]
    p_action: NDArray[np.float32]
    left_out: NDArray[np.int64]
    at_ms: int


class Services(Protocol):
    """Axes: n posts found, C candidates, T topics, A actions in the order of schema.ACTIONS."""

    async def history(self, user_id: int) -> History | None:
        """What the viewer has done, or None for a viewer never heard of."""

    async def recent_actions(self, user_id: int, at_ms: int) -> History:
        """What the viewer has done since what `history` tells, and before `at_ms`; may be empty.

        One entry a post, however many things were done to it, as old as the first of them.
        """

    async def graph(self, user_id: int) -> Graph:
        """Whom the viewer follows, blocks and mutes by now; empty for an unknown viewer."""

    async def seen(self, user_id: int) -> NDArray[np.int64]:
        """Posts in what `history` tells, sorted."""

    async def served(self, user_id: int) -> Served:
        """The viewer's last pages, empty for a viewer who saw none."""

    async def retrieve(
        self, history: History, num_posts: int, at_ms: int, topic_ids: tuple[int, ...] = ()
    ) -> Hits:
        """Posts near the viewer in the two-tower space as of `at_ms`; value: inner product.

        With `topic_ids`, only posts that are on one of them.
        """

    async def near(self, history: History, num_posts: int, zoom: Zoom) -> Hits:
        """Posts whose texts are near those that the viewer liked; no id and no act plays a part.

        None for a viewer who liked nothing that has a text. Value: a · coarse + (1 - a) · fine,
        the cosines of both parts of the prefix embeddings, a = 1 - zoom / 2.
        """

    async def popular(self, num_posts: int) -> Hits:
        """Posts liked by most viewers; value is a rate in [0, 1]."""

    async def recent(
        self, user_id: int, author_ids: NDArray[np.int64], num_posts: int, at_ms: int
    ) -> Hits:
        """Newest posts of these authors that the viewer may see; value is seconds since 1970."""

    async def rising(self, num_posts: int, at_ms: int, window_hours: float) -> Hits:
        """Posts of which the last hours made much of each showing.

        Value: likes, replies and reposts in the window that ends at `at_ms`, per showing and hour.
        """

    async def search(self, text: str, num_posts: int, by: By) -> Hits:
        """Posts that match a text, best first; none that has nothing in common with it.

        Value: by words, BM25; by meaning, the cosine of text and post. Where no post has a vector,
        or nothing can encode the text, none is found by meaning.
        """

    async def match(self, text: str, post_id: NDArray[np.int64]) -> dict[By, NDArray[np.float64]]:
        """How well posts match a text, in the order asked. float64 [C] each.

        Returns:
            words: BM25 as a share of what a text gets that says each word once, in [0, 1].
            meaning: the cosine, NaN = unknown.
        """

    async def conversation(self, post_id: int, num_posts: int) -> Hits:
        """Replies to a post, replies to those, and so on.

        Value: 1 / depth, where what answers the post itself is 1 deep; equally deep ones by
        popularity.
        """

    async def posts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """What is known of posts, each column [C, ...] in the order asked.

        Returns:
            The columns that the hydrator post_facts declares, as it describes them.
        """

    async def labels(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """Labels that hold at `at_ms`, as sets over visibility.LABELS; 0 = none. [C] -> [C]."""

    async def mentions(
        self, post_id: NDArray[np.int64], keywords: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """Whether the text of each post, 0 = no post, holds one of `keywords`. bool [C].

        A word or phrase is held as `pipelines.feed.words` says: whole words in a row.
        """

    async def users(self, user_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """What is known of accounts, each column [C] in the order asked.

        Returns:
            num_followers int64, -1 = unknown; created_at_s float64, NaN = unknown.
        """

    async def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """What had come of posts by `at_ms`, each column int64 [C], -1 = not counted.

        Returns:
            The columns that the hydrator engagement declares.
        """

    async def rank(
        self,
        history: History,
        post_id: NDArray[np.int64],
        author_id: NDArray[np.int64],
        surface: int,
        at_ms: int,
    ) -> NDArray[np.float32]:
        """What the viewer would do with each post if shown on `surface`, 0 = unknown, at `at_ms`.

        Returns:
            float32 [C, A]: probabilities, seconds.
        """

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Worth of each post to the feed from its predicted actions. float64 [C]."""

    async def blend(self) -> Blend:
        """The weights that `value` goes by, which are also those in use unless settings differ."""

    async def interference(
        self,
        history: History,
        post_id: NDArray[np.int64],
        space: Space | None,
        scale_weights: tuple[float, ...] | None,
    ) -> Interference:
        """The field of the liked posts of `history` at each post; None = as the bundle says."""

    async def vectors(self, post_id: NDArray[np.int64]) -> NDArray[np.float32]:
        """What posts are about, as unit vectors; zeros = unknown. [C, E]; E = 0: none have any."""

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Write the page served on `surface`, 0 = unknown, to the event log."""

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Keep the page for `served`; the same request's again changes nothing."""

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """What `cache` was last given of the viewer under `key` for the same models.

        Only if it is of an instant in [after_ms, before_ms) and still there.
        """

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """Keep what was scored for a page, if there is room; it takes the place of the last."""

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Write all posts scored for a request, best first, with their predictions to a log."""
