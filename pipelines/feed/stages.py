"""FeedQuery and the stages of a feed: read this first.

A feed is made by components, one file each, in the folders named below. A
component is a frozen dataclass whose fields are its settings in feed.yaml; it
declares which columns it needs and provides, and what its failure means. The
engine (pipeline.py) runs the stages in this order:

    query_hydrators   who asks: fill the query's context
    sources           which posts might do; a post from two sources is one row
    hydrators         what is known of each post: add columns
    filters           which posts must not be shown, each judged alone
    scorers           how good each post is: add columns, at last `score`
    selectors         the order of the posts (exactly one component)
    post_filters      rules about the page as a whole, in order; the page is refilled
    side_effects      what happens after the reply

`needs` names a column of the posts (`created_at_s`) or, as `query.seen`, a part
of the query's context. Axes: C candidates, K posts chosen by the selector.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.feed.bloom import BloomFilter
from pipelines.feed.services import Hits, Services, Zoom
from pipelines.feed.table import Candidates, Columns

STAGES = (
    "query_hydrators",
    "sources",
    "hydrators",
    "filters",
    "scorers",
    "selectors",
    "post_filters",
    "side_effects",
)


@dataclass(frozen=True, kw_only=True)
class FeedQuery:
    """One viewer's request for a page of posts.

    Attributes:
        limit: posts wanted on the page, at least 1.
        now_ms: the instant of the request, ms since 1970; components have no other clock.
        surface: product surface that the page is for, as in schema.EVENTS; 0 = unknown.
        in_network_only: whether all posts must be by authors whom the viewer follows.
        exclude_video: whether no post may be a video.
        topic_ids: topics wanted; none = any.
        excluded_topic_ids: topics not wanted.
        seen_ids: posts that the client knows were seen, whatever the server knows.
        bloom_filters: more such posts, in filters that hold one too many now and then.
        served_ids: posts that the client has loaded.
        is_bottom_request: whether the viewer scrolls on below `served_ids`.
        client_app_id: program that asks, 0 = unknown.
        country: ISO 3166-1 alpha-2, "" = unknown.
        language: BCP 47 tag of the client's, "" = unknown. Neither this nor country nor program
            is read by any component here; they are there for yours.
        feed: name of the feed that is asked, such as "search".
        text: what is searched for, "" = nothing.
        focal_post_id: the post whose replies are wanted, 0 = none.
        zoom: how near to what the viewer liked all posts must be, see `Services.near`; None = posts
            come from all sources.
        overrides: settings for this request alone, stage.component.setting -> value.
        variant: names the settings of all components in use; the engine's to say.
        context: what query hydrators found; read it as `query["seen"]`.
    """

    user_id: int
    limit: int
    now_ms: int
    request_id: str
    surface: int = 0
    in_network_only: bool = False
    exclude_video: bool = False
    topic_ids: tuple[int, ...] = ()
    excluded_topic_ids: tuple[int, ...] = ()
    seen_ids: tuple[int, ...] = ()
    bloom_filters: tuple[BloomFilter, ...] = ()
    served_ids: tuple[int, ...] = ()
    is_bottom_request: bool = False
    client_app_id: int = 0
    country: str = ""
    language: str = ""
    feed: str = "timeline"
    text: str = ""
    focal_post_id: int = 0
    zoom: Zoom | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        """`now_ms` in seconds."""
        return self.now_ms / 1000

    @property
    def cold_start(self) -> bool:
        """Whether the viewer's history was asked for and nobody has heard of the viewer."""
        return self.context.get("history", ...) is None

    @property
    def from_cache(self) -> bool:
        """Whether posts scored for an earlier page take the place of what sources would bring."""
        return self.context.get("cached_posts") is not None

    @property
    def zooms(self) -> bool:
        """Whether sources that know no zoom stand back; for a new viewer nothing is near."""
        return self.zoom is not None and not self.cold_start

    def __getitem__(self, name: str) -> Any:
        try:
            return self.context[name]
        except KeyError:
            have = ", ".join(sorted(self.context))
            raise KeyError(f"no query.{name} (have: {have or 'nothing'})") from None


class Component:
    """Base of every stage; subclass one of the stages below, not this.

    Class attributes:
        needs: columns and `query.` parts without which it cannot run.
        wants: ones it waits for and can do without; `*` matches any text.
        provides: columns (name -> dtype) or `query.` parts (name -> type) that it
            and nobody else writes.
        fails: what failing means: "closed" = no posts at all, "open" = go on
            without what it would have done. No default.
    """

    stage: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    wants: ClassVar[tuple[str, ...]] = ()
    provides: ClassVar[Mapping[str, Any]]
    fails: ClassVar[Literal["closed", "open"]]

    def __init_subclass__(cls, stage: str | None = None) -> None:
        super().__init_subclass__()
        if stage is not None:
            cls.stage = stage
            return
        cls.name = snake_case(cls.__name__)
        if cls.stage == "sources":
            cls.provides = {f"{cls.name}_rank": np.int64, f"{cls.name}_value": np.float64}
        _check_declared(cls)

    @property
    def key(self) -> str:
        """Stage and name: its place in feed.yaml, its name in traces and metrics."""
        return f"{self.stage}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Waiting(Component, ABC, stage=""):
    """A component that may wait for a service; after `timeout_ms` it has failed."""

    timeout_ms: PositiveInt = 100


@dataclass(frozen=True, kw_only=True)
class QueryHydrator(Waiting, stage="query_hydrators"):
    """Finds out something about the viewer or the request."""

    @abstractmethod
    async def hydrate(self, query: FeedQuery, services: Services) -> Mapping[str, Any]:
        """Return exactly what `provides` names, `query.` included."""


@dataclass(frozen=True, kw_only=True)
class Source(Waiting, stage="sources"):
    """Brings posts; leaves `<name>_rank` (1 = best, 0 = not brought) and `<name>_value`."""

    beside_cache: ClassVar[bool] = False  # whether to ask it even where `query.from_cache`
    zooms: ClassVar[bool] = False  # whether to ask it even where `query.zooms`

    def enabled(self, query: FeedQuery) -> bool:
        """Whether to ask this source at all."""
        return True

    @abstractmethod
    async def find(self, query: FeedQuery, services: Services) -> Hits:
        """Find posts, best first."""

    def describe(self, query: FeedQuery, value: float) -> str:
        """Say in a few words what `value` means."""
        return f"value {value:.2f}"


@dataclass(frozen=True, kw_only=True)
class Hydrator(Waiting, stage="hydrators"):
    """Adds facts about the posts."""

    @abstractmethod
    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Return exactly the columns of `provides`, each [C, ...] in the order of `posts`."""

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say in a few words what this found out of the post at `row`, if worth saying.

        Asked only where its columns are there.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class Filter(Component, ABC, stage="filters"):
    """Judges each post alone: the verdict depends on no other post and no order."""

    provides: ClassVar = {}

    @abstractmethod
    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Whether each post may be shown. bool [C]."""


@dataclass(frozen=True, kw_only=True)
class Scorer(Waiting, stage="scorers"):
    """Adds predictions, values or multipliers.

    The base score is a post's value plus every column named `*_worth`, the final score is
    `base_score` times every column named `*_multiplier`, so a scorer that adds or adjusts
    leaves exactly what it did to each post.
    """

    def enabled(self, query: FeedQuery) -> bool:
        """Whether to run at all; scorers that need its columns are left out with it."""
        return True

    @abstractmethod
    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Return exactly the columns of `provides`, each [C, ...] in the order of `posts`."""

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say in a few words what this did to the post at `row`, if worth saying.

        Asked only where its columns are there.
        """
        return None

    def numbers(self, posts: Candidates, row: int) -> Mapping[str, float | tuple[float, ...]]:
        """What this computed for the post at `row` beside its effect, by name; NaN = nothing.

        Asked only where its columns are there.
        """
        return {}


@dataclass(frozen=True, kw_only=True)
class Selector(Component, ABC, stage="selectors"):
    """Puts the posts in order."""

    provides: ClassVar = {}

    @abstractmethod
    def select(self, query: FeedQuery, posts: Candidates) -> NDArray[np.int64]:
        """Rows of `posts`, best first, none twice. int64 [K], more than a page."""


@dataclass(frozen=True, kw_only=True)
class PostFilter(Component, ABC, stage="post_filters"):
    """A rule about the page as a whole; what it drops is replaced by the next best posts."""

    provides: ClassVar = {}

    @abstractmethod
    def keep(self, query: FeedQuery, page: Candidates) -> NDArray[np.bool_]:
        """Which posts of the page, in served order, may stay. bool [n], n <= limit."""


@dataclass(frozen=True, kw_only=True)
class SideEffect(Waiting, stage="side_effects"):
    """Happens after the reply; its failure is counted and changes no answer.

    Its context has one more part, `query.degraded`: what the page was made without. One of the
    `whole_pool` is given all scored posts, best first, instead of the page.
    """

    provides: ClassVar = {}
    fails = "open"
    whole_pool: ClassVar[bool] = False

    def enabled(self, query: FeedQuery) -> bool:
        """Whether to act at all."""
        return True

    @abstractmethod
    async def run(self, query: FeedQuery, page: Candidates, services: Services) -> None:
        """Act on the served page."""


def with_context(query: FeedQuery, found: Mapping[str, Any]) -> FeedQuery:
    """`query` with `query.` parts added to its context."""
    added = {name.removeprefix("query."): value for name, value in found.items()}
    return replace(query, context={**query.context, **added})


def snake_case(name: str) -> str:
    """`PostFacts` -> `post_facts`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _check_declared(cls: type[Component]) -> None:
    """Refuse a component that leaves something to guess, when its class is made.

    Raises:
        TypeError: no docstring, or needs, provides or fails missing or malformed.
    """
    place = f"{cls.stage}.{cls.name}"
    if not (cls.__doc__ or "").strip():
        raise TypeError(f"{place}: a component needs a docstring")
    if getattr(cls, "fails", None) not in ("closed", "open"):
        raise TypeError(
            f"{place}: declare fails = 'closed' (drop all posts) or 'open' (go on without it), "
            f"got {getattr(cls, 'fails', 'nothing')!r}"
        )
    for attribute, kind in (("needs", tuple), ("wants", tuple), ("provides", Mapping)):
        declared = getattr(cls, attribute, None)
        if not isinstance(declared, kind) or not all(isinstance(name, str) for name in declared):
            raise TypeError(
                f"{place}: declare {attribute} as a {kind.__name__} of names, got {declared!r}"
            )
    wrong = [n for n in cls.provides if n.startswith("query.") != (cls.stage == STAGES[0])]
    if wrong:
        raise TypeError(f"{place}: provides {wrong}, but only query hydrators write query. parts")
