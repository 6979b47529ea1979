"""A small made-up world that answers the feed in this process, from plain arrays.

Everything follows from ids by closed formulas: no randomness, no clock. Users and
authors share ids; user 3 writes the posts of author 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.hydrators.engagement import Engagement
from pipelines.feed.services import (
    Blend,
    By,
    Graph,
    Hits,
    Interference,
    Scored,
    Served,
    Space,
    Zoom,
)
from pipelines.feed.stages import FeedQuery
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import mask_of
from pipelines.feed.words import Words
from pipelines.schema import ACTION_NAMES, DWELL_TIME, action_weights

NOW_MS = 1_700_000_000_000
WEIGHTS = dict(zip(ACTION_NAMES, action_weights().tolist(), strict=True))
BLEND = Blend(
    ACTION_NAMES, action_weights(), np.ones(len(ACTION_NAMES), np.bool_), action_weights()
)
STRANGER = 10_000  # a viewer nobody has heard of
POINTERS = (
    *("reply_to_post_id", "repost_of_post_id", "quote_of_post_id"),
    *("reply_to_author_id", "repost_author_id", "quote_author_id"),
)
UNKNOWN = {"created_at_s": np.nan, "duration_s": np.nan, "language": ""}
_WAVES = np.array([1.3, 2.1, 0.7, 3.9, 1.9, 2.9])


class World:
    """Implements `pipelines.feed.services.Services`.

    No post answers, repeats or quotes another, has topics or text; a test may say otherwise by
    changing the arrays.

    Attributes:
        facts: columns of the hydrator post_facts, one row a post; `known` follows from the id.
        counts: columns of the hydrator engagement.
        num_followers: of accounts 1 to num_authors; nobody knows the others.
        labelled: "post" or "author" -> id -> labels, which never end.
        about: vectors of posts. float32 [num_posts, E].
        pages: what the viewer's last pages held, for all viewers.
        ranked_for: surface of every ranking asked for.
        num_ranked: posts of every ranking asked for.
        scored: what was last cached, by viewer and key; None = there is no cache.
        audited: (request_id, post ids) of every request written down.
        recorded: (user_id, request_id, surface, post ids) of every page recorded.
        remembered: the same of every page remembered.
        acts: what viewers did lately, by viewer; nothing unless a test says so.
    """

    def __init__(self, num_posts: int = 300, num_authors: int = 40) -> None:
        self.num_authors = num_authors
        self.post_id = np.arange(1, num_posts + 1)
        self.author_id = self.post_id * 7 % num_authors + 1
        self.created_at_s = NOW_MS / 1000 - (self.post_id * 79 % 60) * 3600.0
        self.popularity = (self.post_id * 37 % 101) / 101
        zero = np.zeros(num_posts, np.int64)
        self.facts = dict.fromkeys(POINTERS, zero) | {
            "author_id": self.author_id,
            "created_at_s": self.created_at_s,
            "duration_s": self.post_id % 90 + 1.0,
            "popularity": self.popularity,
            "conversation_id": self.post_id,
            "topic_ids": np.zeros((num_posts, 2), np.int64),
            "language": np.full(num_posts, "en", "U12"),
            "has_text": np.ones(num_posts, np.bool_),
        }
        self.counts = dict.fromkeys(Engagement.provides, self.post_id * 31 % 97)
        self.counts["num_views"] = self.post_id * 5003 % 20_011
        self.num_followers = np.arange(1, num_authors + 1) * 211 % 2003
        self.space = _unit(np.sin(np.outer(self.post_id, _WAVES)))
        none = self.post_id[:0]
        self.pages = Served(none, none, none.reshape(0, 2), none)
        self.labelled: dict[str, dict[int, tuple[str, ...]]] = {"post": {}, "author": {}}
        self.about = np.zeros((num_posts, 0), np.float32)
        self.ranked_for: list[int] = []
        self.num_ranked: list[int] = []
        self.scored: dict[tuple[int, str], Scored] | None = None
        self.audited: list[tuple[str, list[int]]] = []
        self.recorded: list[tuple[int, str, int, list[int]]] = []
        self.remembered: list[tuple[int, str, int, list[int]]] = []
        self.acts: dict[int, History] = {}

    def query(self, user_id: int = 1, limit: int = 10) -> FeedQuery:
        """A request at the world's only instant."""
        return FeedQuery(user_id=user_id, limit=limit, now_ms=NOW_MS, request_id=f"r{user_id}")

    def thread(self, reply_to: NDArray[np.int64]) -> None:
        """Make each post answer another, 0 = none. int64 [num_posts]."""
        top = np.where(reply_to > 0, reply_to, self.post_id)
        for _ in self.post_id:
            top = np.where(reply_to[top - 1] > 0, reply_to[top - 1], top)
        author = np.where(reply_to > 0, self.author_id[reply_to - 1], 0)
        self.facts |= {
            "reply_to_post_id": reply_to,
            "reply_to_author_id": author,
            "conversation_id": top,
        }

    def similarity(self, user_id: int) -> NDArray[np.float64]:
        """Of every post to a viewer. float64 [num_posts]."""
        return self.space @ _unit(np.sin((user_id + 0.5) * _WAVES))

    async def history(self, user_id: int) -> History | None:
        """Nobody knows ids from `STRANGER` on."""
        return None if user_id >= STRANGER else History.empty(user_id)

    async def recent_actions(self, user_id: int, at_ms: int) -> History:
        """Whatever the test put into `self.acts`."""
        return self.acts.get(user_id, History.empty(user_id))

    async def graph(self, user_id: int) -> Graph:
        """Follows every fifth author, blocks one and mutes one."""
        authors = np.arange(1, self.num_authors + 1)
        if user_id >= STRANGER:
            return Graph(authors[:0], authors[:0], authors[:0])
        blocked, muted = (user_id * 3 % self.num_authors, user_id * 5 % self.num_authors)
        followed = authors[(authors + user_id) % 5 == 0]
        return Graph(followed, np.array([blocked + 1]), np.array([muted + 1]))

    async def seen(self, user_id: int) -> NDArray[np.int64]:
        """Every seventeenth post."""
        return self.post_id[self.post_id % 17 == user_id % 17]

    async def served(self, user_id: int) -> Served:
        """Whatever the test put into `self.pages`."""
        return self.pages

    async def labels(self, kind: str, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """What a test put into `self.labelled`."""
        labelled = self.labelled[kind]
        return np.array([mask_of(labelled.get(one, ())) for one in ids.tolist()], np.int64)

    async def mentions(
        self, post_id: NDArray[np.int64], keywords: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """Every post says "post" and its id."""
        texts = pa.array([f"Post {one}" if one else "" for one in post_id.tolist()])
        return Words.of(texts).mention(Words.of(pa.array(keywords)))

    async def retrieve(
        self, history: History, num_posts: int, at_ms: int, topic_ids: tuple[int, ...] = ()
    ) -> Hits:
        """By similarity."""
        similarity = self.similarity(history.user_id)
        if not topic_ids:
            return self._best(similarity, num_posts)
        on_topic = np.isin(self.facts["topic_ids"], topic_ids).any(axis=1)
        return self._best(
            np.where(on_topic, similarity, -np.inf), min(num_posts, int(on_topic.sum()))
        )

    async def near(self, history: History, num_posts: int, zoom: Zoom) -> Hits:
        """Similar to the viewer, by as many places of the space as the zoom says."""
        width = 2 if zoom == "auto" else 1 + round(zoom * (self.space.shape[1] - 1))
        viewer = _unit(np.sin((history.user_id + 0.5) * _WAVES))
        return self._best(self.space[:, :width] @ viewer[:width], num_posts)

    async def popular(self, num_posts: int) -> Hits:
        """By popularity."""
        return self._best(self.popularity, num_posts)

    async def recent(
        self, user_id: int, author_ids: NDArray[np.int64], num_posts: int, at_ms: int
    ) -> Hits:
        """By time."""
        mine = np.isin(self.author_id, author_ids)
        return self._best(np.where(mine, self.created_at_s, -np.inf), min(num_posts, mine.sum()))

    async def rising(self, num_posts: int, at_ms: int, window_hours: float) -> Hits:
        """The more likes a post has for its views, the faster."""
        return self._best(self.counts["num_likes"] / (self.counts["num_views"] + 20), num_posts)

    async def search(self, text: str, num_posts: int, by: By) -> Hits:
        """By words, those that have one; by meaning, those on the side of the text."""
        value = (await self.match(text, self.post_id))[by]
        return self._best(value, min(num_posts, int((value > 0).sum())))

    async def match(self, text: str, post_id: NDArray[np.int64]) -> dict[By, NDArray[np.float64]]:
        """Every post says "post" and its id, and means what its place in the space says.

        A text means the mean of the posts whose ids it says.
        """
        said = text.lower().split()
        ids = np.array([int(word) for word in said if word.isdigit()], np.int64)
        words = 0.2 * ("post" in said) + 0.7 * np.isin(post_id, ids)
        meant = self.space[ids - 1].mean(axis=0) if len(ids) else np.full(self.space.shape[1], 0.1)
        return {"words": words, "meaning": self.space[post_id - 1] @ meant}

    async def conversation(self, post_id: int, num_posts: int) -> Hits:
        """By depth, then by popularity."""
        reply_to, level, depth = self.facts["reply_to_post_id"], np.array([post_id]), 0
        found, value = [], []
        while len(level):
            depth += 1
            rows = np.flatnonzero(np.isin(reply_to, level))
            level = self.post_id[rows[np.argsort(-self.popularity[rows], kind="stable")]]
            found += level.tolist()
            value += [1 / depth] * len(level)
        return Hits(np.array(found[:num_posts], np.int64), np.array(value[:num_posts]))

    async def posts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """Knows its own posts only."""
        known = (post_id >= 1) & (post_id <= len(self.post_id))
        row = np.where(known, post_id - 1, 0)
        facts = {name: values[row] for name, values in self.facts.items()}
        for name, values in facts.items():
            values[~known] = UNKNOWN.get(name, 0)
        facts["conversation_id"][~known] = post_id[~known]
        return {"known": known, **facts}

    async def users(self, user_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """Accounts of authors, all registered long ago."""
        known = (user_id >= 1) & (user_id <= self.num_authors)
        return {
            "num_followers": np.where(
                known, self.num_followers[np.where(known, user_id, 1) - 1], -1
            ),
            "created_at_s": np.where(known, 1e9, np.nan),
        }

    async def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """Counts of its own posts."""
        known = (post_id >= 1) & (post_id <= len(self.post_id))
        row = np.where(known, post_id - 1, 0)
        return {name: np.where(known, values[row], -1) for name, values in self.counts.items()}

    async def rank(
        self,
        history: History,
        post_id: NDArray[np.int64],
        author_id: NDArray[np.int64],
        surface: int,
        at_ms: int,
    ) -> NDArray[np.float32]:
        """More similar = more of every action, the rarer the larger its weight."""
        self.ranked_for.append(surface)
        self.num_ranked.append(len(post_id))
        rarity = np.log1p(np.abs(list(WEIGHTS.values()))) * 1.7
        liking = self.similarity(history.user_id)[post_id - 1]
        liking = np.where(np.array(list(WEIGHTS.values())) < 0, -1, 1) * liking[:, None]
        p_action = 1 / (1 + np.exp(rarity + 1 - 2 * liking))
        p_action[:, DWELL_TIME] *= 40
        return p_action.astype(np.float32)

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """The weighted sum."""
        return p_action.astype(np.float64) @ np.array(list(WEIGHTS.values()))

    async def blend(self) -> Blend:
        """All actions learned, each with its default weight."""
        return BLEND

    async def interference(
        self,
        history: History,
        post_id: NDArray[np.int64],
        space: Space | None,
        scale_weights: tuple[float, ...] | None,
    ) -> Interference:
        """Adds more the more similar, and takes a tenth."""
        similarity = self.similarity(history.user_id)[post_id - 1].astype(np.float64)
        weights = np.array(scale_weights or (1.0, 0.5))
        adds = np.abs(similarity)[:, None] * weights
        return Interference(0.9 * adds.sum(1), adds, -0.1 * adds, 2.5, 0.25, alpha=0.5)

    async def vectors(self, post_id: NDArray[np.int64]) -> NDArray[np.float32]:
        """None, unless a test puts one a post into `self.about`."""
        return self.about[post_id - 1]

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Into a list."""
        self.recorded.append((user_id, request_id, surface, page.post_id.tolist()))

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Into another list."""
        self.remembered.append((user_id, request_id, surface, page.post_id.tolist()))

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """Only where a test sets `self.scored`, and of whatever instant."""
        return (self.scored or {}).get((user_id, key))

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """As above."""
        if self.scored is not None:
            self.scored[user_id, key] = scored

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Into a list."""
        self.audited.append((request_id, pool.post_id.tolist()))

    def _best(self, value: NDArray[np.float64], num_posts: int) -> Hits:
        rows = np.argsort(-value, kind="stable")[:num_posts]
        return Hits(self.post_id[rows], value[rows])


class Disturbed:
    """A world in which some methods are replaced by others."""

    def __init__(self, world: World, **methods: Callable[..., Awaitable[Any]]) -> None:
        self._world, self._methods = world, methods

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return self._methods.get(name) or getattr(self._world, name)


async def broken(*_: Any) -> Any:
    """A service that is down."""
    raise ConnectionError("service is down")


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
