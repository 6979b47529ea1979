"""What the feed asks of the outside, answered by a bundle's stores and its models.

The models may run anywhere: in other replicas behind Ray handles, or in this process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import Facts
from pipelines.features import History
from pipelines.feed.services import Blend, Graph, Hits, Scored, Served
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Kind
from serve.live.relations import BLOCK, FOLLOW, MUTE
from serve.live.state import LiveState
from serve.stores.audits import audit as audited
from serve.stores.candidates import CandidateStore
from serve.stores.event_log import EventLog, impressions
from serve.stores.graph import GraphStore
from serve.stores.labels import LabelStore
from serve.stores.posts import PostStore
from serve.stores.preferences import PreferenceStore
from serve.stores.profiles import ProfileStore
from serve.stores.users import UserStore
from serve.stores.viewers.history import history_of
from serve.stores.viewers.store import Page, ViewerStore, before, posts_of
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


def version(bundle: Bundle) -> str:
    """Tells bundles apart; metrics, which may be written later, do not count."""
    card = {name: value for name, value in bundle.card.items() if name != "metrics"}
    text = json.dumps(card, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# What is counted of posts, and the action that the column counts.
COUNTED = {
    "num_likes": "favorite",
    "num_replies": "reply",
    "num_reposts": "repost",
    "num_quotes": "quote",
}


@dataclass(frozen=True)
class Stores:
    """The tables of a bundle, indexed.

    Attributes:
        live: what came since the bundle was made; outlives bundles.
        posts: the bundle's and those that came since.
        facts: what models read of posts, of which the feed reads the as-of counts.
        counted: column of the counts for each of `COUNTED` that the log observes.
        blend: what predicted actions are worth.
        as_of_ms: newest event that the bundle knows.
        version: of the bundle.
    """

    live: LiveState
    posts: PostStore
    profiles: ProfileStore
    graph: GraphStore
    users: UserStore
    facts: Facts
    counted: Mapping[str, int]
    blend: Blend
    as_of_ms: int
    version: str

    @classmethod
    def of(cls, bundle: Bundle, live: LiveState) -> Stores:
        """Index the tables of `bundle`; takes time and memory in proportion to them.

        From now on `live` adds to them what comes.
        """
        profiles = ProfileStore(bundle.profiles)
        observed = bundle.card["observed_actions"]
        return cls(
            live=live,
            posts=live.over(bundle.posts, bundle.as_of_ms),
            profiles=profiles,
            graph=GraphStore(bundle.follows, profiles),
            users=UserStore(bundle.users),
            facts=bundle.facts,
            counted={
                name: 1 + bundle.actions.index(action)
                for name, action in COUNTED.items()
                if action in observed
            },
            blend=Blend(
                actions=bundle.actions,
                own=bundle.weights,
                learned=np.isin(bundle.actions, observed),
                weights=bundle.weights,
            ),
            as_of_ms=bundle.as_of_ms,
            version=version(bundle),
        )

    def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """What `Services.engagement` promises: the bundle's counts at `at_ms`, and since then all.

        How often a post was shown is known of the bundle's time alone.
        """
        unknown = np.full(len(post_id), -1)
        found = dict.fromkeys(("num_views", *COUNTED), unknown)
        if "post" in self.facts.rates:
            counts = self.facts.rates["post"].before(post_id, np.full(len(post_id), at_ms))
            counts = counts.astype(np.int64)
            found["num_views"] = counts[:, 0]
            found |= {name: counts[:, column] for name, column in self.counted.items()}
        since = self.live.counts.of(post_id)
        for at, name in enumerate(COUNTED):
            more = since[:, at]
            found[name] = np.where(more > 0, np.maximum(found[name], 0) + more, found[name])
        return found


@dataclass(frozen=True)
class FromBundle:
    """The part of `pipelines.feed.services.Services` that a bundle answers.

    Attributes:
        models: where predictions come from.
        stores: the tables of the bundle being served.
    """

    models: Models
    stores: Stores

    async def history(self, user_id: int) -> History | None:
        """From the bundle; what was done since, `recent_actions` tells."""
        return self.stores.profiles.history(user_id)

    async def graph(self, user_id: int) -> Graph:
        """From the bundle."""
        return self.stores.graph.of(user_id)

    async def seen(self, user_id: int) -> NDArray[np.int64]:
        """In the bundle's history."""
        return self.stores.profiles.seen(user_id)

    async def retrieve(
        self, history: History, num_posts: int, at_ms: int, topic_ids: tuple[int, ...] = ()
    ) -> Hits:
        """From the two towers."""
        return await self.models.search(Search(history, num_posts, at_ms, topic_ids))

    async def similarity(self, history: History, post_id: int, at_ms: int) -> float | None:
        """From the two towers; None = the viewer or the post has no place in their space."""
        return await self.models.similarity(Comparison(history, post_id, at_ms))

    async def popular(self, num_posts: int) -> Hits:
        """From the bundle."""
        return self.stores.posts.most_liked(num_posts)

    async def recent(
        self, user_id: int, author_ids: NDArray[np.int64], num_posts: int, at_ms: int
    ) -> Hits:
        """From the posts of the last days, which are the bundle's and what came since."""
        return self.stores.live.recent.read(user_id, author_ids, (), at_ms, num_posts)

    async def posts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """From the bundle."""
        return self.stores.posts.facts(post_id)

    async def mentions(
        self, post_id: NDArray[np.int64], keywords: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """From the bundle's texts."""
        return self.stores.posts.mention(post_id, keywords)

    async def users(self, user_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """From the bundle."""
        return self.stores.users.facts(user_id)

    async def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """From the bundle's as-of counts."""
        return self.stores.engagement(post_id, at_ms)

    async def rank(
        self,
        history: History,
        post_id: NDArray[np.int64],
        author_id: NDArray[np.int64],
        surface: int,
        at_ms: int,
    ) -> NDArray[np.float32]:
        """From the ranker."""
        return await self.models.rank(Ranking(history, post_id, author_id, surface, at_ms))

    async def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """From the value model."""
        return await self.models.value(p_action)

    async def blend(self) -> Blend:
        """From the bundle."""
        return self.stores.blend

    async def vectors(self, post_id: NDArray[np.int64]) -> NDArray[np.float32]:
        """From the bundle's vectors of text, if it has any."""
        return self.stores.facts.of_posts(post_id, "content")[0]


@dataclass(frozen=True)
class ServedFeed(FromBundle):
    """`pipelines.feed.services.Services` of a running server.

    Attributes:
        viewers: what viewers did since the bundle was made, and what they were shown.
        event_log: where impressions go.
        label_store: labels of posts and authors.
        preferences: what viewers want, beside what they do.
        candidates: what was scored for viewers' last pages.
        audit_log: where scores for audit go; None = nowhere.
    """

    viewers: ViewerStore
    event_log: EventLog
    label_store: LabelStore
    preferences: PreferenceStore
    candidates: CandidateStore
    audit_log: EventLog | None

    async def recent_actions(self, user_id: int, at_ms: int) -> History:
        """From the store of viewers; authors are those of the posts."""
        engagements = await self.viewers.engagements(user_id)
        history = history_of(user_id, engagements, self.stores.as_of_ms, at_ms)
        if not len(history.post_id):
            return history
        facts = await self.posts(history.post_id)
        return replace(history, author_id=facts["author_id"])

    async def graph(self, user_id: int) -> Graph:
        """From the bundle, what the viewer said they want, and what they did since.

        None of this asks a store that may be down.
        """
        return await self._graph(user_id, before_ms=None)

    async def served(self, user_id: int) -> Served:
        """From the store of viewers; authors and topics are the posts'."""
        pages = await self._pages(user_id)
        post_id = posts_of(pages)
        facts = await self.posts(post_id)
        at_ms = np.array([page.at_ms for page in pages], np.int64)
        shown_at_ms = np.repeat(at_ms, [len(page.post_id) for page in pages])
        return Served(post_id, facts["author_id"], facts["topic_ids"], shown_at_ms)

    async def labels(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """From the file that the server was started with, if any."""
        return self.label_store.of(kind, ids, at_ms)

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Append the page to the event log."""
        rows = impressions(user_id, request_id, now_ms, surface, page["post_id"])
        self.event_log.append(rows)

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Into the store of viewers."""
        await self.viewers.add_page(user_id, Page(request_id, surface, now_ms, page["post_id"]))

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """From this process, by the bundle in use."""
        return self.candidates.get(user_id, self._key(key), after_ms, before_ms)

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """In this process."""
        self.candidates.put(user_id, self._key(key), scored)

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Append the posts to the log of audits.

        Raises:
            RuntimeError: the feed is to be audited, and the server was given no log to do it in.
        """
        if self.audit_log is None:
            raise RuntimeError("no audit_log in the server's args")
        request = user_id, request_id, now_ms, surface, self.stores.version
        self.audit_log.append(audited(*request, pool))

    def _key(self, key: str) -> str:
        return f"{self.stores.version}/{key}"

    async def _pages(self, user_id: int) -> Sequence[Page]:
        """Pages that the viewer was shown, oldest first."""
        return await self.viewers.pages(user_id)

    async def _graph(self, user_id: int, before_ms: int | None) -> Graph:
        """What `graph` says, of what was done before some instant, None = now."""
        graph = self.preferences.of(user_id).added_to(self.stores.graph.of(user_id))
        action, post_id = self.stores.live.relations.posts(user_id, before_ms)
        if not len(post_id):
            return graph
        author_id = (await self.posts(post_id))["author_id"]

        def also(known: NDArray[np.int64], name: str) -> NDArray[np.int64]:
            return np.union1d(known, author_id[(action == name) & (author_id > 0)])

        followed = also(graph.followed, FOLLOW)
        return replace(
            graph,
            followed=followed,
            blocked=also(graph.blocked, BLOCK),
            muted=also(graph.muted, MUTE),
            mutual=self.stores.graph.mutual(user_id, followed),
        )


@dataclass(frozen=True)
class AsItWas(ServedFeed):
    """The same, as things stood before `post_id` was last shown; records nothing.

    Answers "why was this post shown?" after showing it has made it a seen post, or has made the
    viewer block its author.

    Attributes:
        shown_at_ms: when that was; None = never, or nobody knows: as things stand now.
    """

    post_id: int
    shown_at_ms: int | None

    async def graph(self, user_id: int) -> Graph:
        """With what was done before."""
        return await self._graph(user_id, self.shown_at_ms)

    async def _pages(self, user_id: int) -> Sequence[Page]:
        """Those before the page in question."""
        return before(await self.viewers.pages(user_id), self.post_id)

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Nothing was shown."""

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Nothing was shown."""

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """Nothing: what is there is what pages were made from."""

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Nothing was served."""
