"""What the feed asks of the outside, answered by a bundle's stores and its models.

The models may run anywhere: in other replicas behind Ray handles, or in this process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.facts import Facts
from pipelines.features import History
from pipelines.feed.services import Blend, Graph, Hits, Served
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Kind
from serve.stores.event_log import EventLog, impressions
from serve.stores.graph import GraphStore
from serve.stores.labels import LabelStore
from serve.stores.posts import PostStore
from serve.stores.profiles import ProfileStore
from serve.stores.recent import RecentPosts
from serve.stores.recent import posts_of as posts_of_table
from serve.stores.served import Page, ServedStore, posts_of
from serve.stores.users import UserStore
from serve.surfaces import OfSurfaces, SurfaceStores
from train.bundle import Bundle


@dataclass(frozen=True)
class Search:
    """Find `num_posts` posts near one viewer as of `at_ms`."""

    history: History
    num_posts: int
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


@dataclass(frozen=True)
class Models:
    """The three models of a bundle, each one call away.

    `versions` asks what they are of: deployment -> bundle version of each of its replicas
    that answers in time; empty for models in this process, which are always of its bundle.
    """

    search: Callable[[Search], Awaitable[Hits]]
    rank: Callable[[Ranking], Awaitable[NDArray[np.float32]]]
    value: Callable[[NDArray[np.float32]], Awaitable[NDArray[np.float64]]]
    versions: Callable[[], Awaitable[Mapping[str, Sequence[str]]]] = _all_here


def version(bundle: Bundle) -> str:
    """Tells bundles apart; metrics, which may be written later, do not count."""
    card = {name: value for name, value in bundle.card.items() if name != "metrics"}
    text = json.dumps(card, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# What is counted of posts, and the action that the column counts.
_COUNTED = {
    "num_likes": "favorite",
    "num_replies": "reply",
    "num_reposts": "repost",
    "num_quotes": "quote",
}


@dataclass(frozen=True)
class Stores:
    """The tables of a bundle, indexed.

    Attributes:
        recent: posts of the last days by author; outlives bundles.
        facts: what models read of posts, of which the feed reads the as-of counts.
        counted: column of the counts for each of `_COUNTED` that the log observes.
        blend: what predicted actions are worth.
        surfaces: what search, explore and conversations ask beyond that.
    """

    recent: RecentPosts
    posts: PostStore
    profiles: ProfileStore
    graph: GraphStore
    users: UserStore
    facts: Facts
    counted: Mapping[str, int]
    blend: Blend
    surfaces: SurfaceStores

    @classmethod
    def of(cls, bundle: Bundle, recent: RecentPosts) -> Stores:
        """Index the tables of `bundle`; takes time and memory in proportion to them.

        Its posts are added to `recent`, as of the end of its log.
        """
        posts, _ = posts_of_table(bundle.posts, recent.settings.min_video_s)
        recent.insert(posts, bundle.as_of_ms)
        profiles, post_store = ProfileStore(bundle.profiles), PostStore(bundle.posts)
        observed = bundle.card["observed_actions"]
        counted = {
            name: 1 + bundle.actions.index(action)
            for name, action in _COUNTED.items()
            if action in observed
        }
        return cls(
            recent=recent,
            posts=post_store,
            profiles=profiles,
            graph=GraphStore(bundle.follows, profiles),
            users=UserStore(bundle.users),
            facts=bundle.facts,
            counted=counted,
            blend=Blend(
                actions=bundle.actions,
                own=bundle.weights,
                learned=np.isin(bundle.actions, observed),
                weights=bundle.weights,
            ),
            surfaces=SurfaceStores.of(bundle, post_store, partial(_counts, bundle.facts, counted)),
        )

    def engagement(self, post_id: NDArray[np.int64], at_ms: int) -> dict[str, NDArray]:
        """What `Services.engagement` promises, from the counts that hold at `at_ms`."""
        return _counts(self.facts, self.counted, post_id, at_ms)


def _counts(
    facts: Facts, counted: Mapping[str, int], post_id: NDArray[np.int64], at_ms: int
) -> dict[str, NDArray]:
    unknown = np.full(len(post_id), -1)
    if "post" not in facts.rates:
        return dict.fromkeys(("num_views", *_COUNTED), unknown)
    counts = facts.rates["post"].before(post_id, np.full(len(post_id), at_ms)).astype(np.int64)
    found = {name: counts[:, column] for name, column in counted.items()}
    return {"num_views": counts[:, 0]} | dict.fromkeys(_COUNTED, unknown) | found


@dataclass(frozen=True)
class FromBundle(OfSurfaces):
    """The part of `pipelines.feed.services.Services` that a bundle answers.

    Attributes:
        models: where predictions come from.
        stores: the tables of the bundle being served.
    """

    models: Models
    stores: Stores

    async def history(self, user_id: int) -> History | None:
        """From the bundle: what was done since is learned with the next bundle."""
        return self.stores.profiles.history(user_id)

    async def graph(self, user_id: int) -> Graph:
        """From the bundle."""
        return self.stores.graph.of(user_id)

    async def retrieve(self, history: History, num_posts: int, at_ms: int) -> Hits:
        """From the two towers."""
        return await self.models.search(Search(history, num_posts, at_ms))

    async def popular(self, num_posts: int) -> Hits:
        """From the bundle."""
        return self.stores.posts.most_liked(num_posts)

    async def recent(
        self, user_id: int, author_ids: NDArray[np.int64], num_posts: int, at_ms: int
    ) -> Hits:
        """From the posts of the last days, which are the bundle's and what came since."""
        return self.stores.recent.read(user_id, author_ids, (), at_ms, num_posts)

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
        facts = self.stores.facts
        return facts.content[facts.post_row(post_id)]


@dataclass(frozen=True)
class ServedFeed(FromBundle):
    """`pipelines.feed.services.Services` of a running server.

    Attributes:
        pages: what this process has shown lately.
        event_log: where impressions go.
        label_store: labels of posts and authors.
    """

    pages: ServedStore
    event_log: EventLog
    label_store: LabelStore

    async def seen(self, user_id: int) -> NDArray[np.int64]:
        """In the viewer's history, or shown lately by this process."""
        return np.union1d(self.stores.profiles.seen(user_id), posts_of(self._pages(user_id)))

    async def served(self, user_id: int) -> Served:
        """Shown lately by this process; authors and topics are the bundle's."""
        pages = self._pages(user_id)
        post_id = posts_of(pages)
        facts = self.stores.posts.facts(post_id)
        at_ms = np.array([page.at_ms for page in pages], np.int64)
        shown_at_ms = np.repeat(at_ms, [len(page.post_id) for page in pages])
        return Served(post_id, facts["author_id"], facts["topic_ids"], shown_at_ms)

    async def labels(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """From the file that the server was started with, if any."""
        return self.label_store.of(kind, ids, at_ms)

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Remember the page and append it to the event log."""
        post_id = page["post_id"]
        self.pages.add(user_id, post_id, now_ms)
        self.event_log.append(impressions(user_id, request_id, now_ms, surface, post_id))

    def _pages(self, user_id: int) -> list[Page]:
        """Pages that the viewer was shown, oldest first."""
        return self.pages.before(user_id)


@dataclass(frozen=True)
class AsItWas(ServedFeed):
    """The same, as things stood before `post_id` was last shown; records nothing.

    Answers "why was this post shown?" after showing it has made it a seen post.
    """

    post_id: int

    def _pages(self, user_id: int) -> list[Page]:
        """Those before the page in question."""
        return self.pages.before(user_id, self.post_id)

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Nothing was shown."""
