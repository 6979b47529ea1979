"""The wire format of version 1: requests and responses, nothing else."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import (
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from pipelines.feed.bloom import MAX_BITS, MAX_HASHES, BloomFilter


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
SearchText = Annotated[str, Field(min_length=1, max_length=1_000)]
FeedName = Annotated[
    str, Field(max_length=64, description="which feed; those that the server was started with")
]
LEVELS = {"coarse": 0.0, "middle": 0.5, "fine": 1.0}  # names of zooms
Level = (
    Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    | Literal["coarse", "middle", "fine", "auto"]
)
Number = Annotated[float | None, BeforeValidator(_finite)]  # null = unknown; JSON has no NaN
Numbers = Annotated[list[Number] | Number, Field(union_mode="left_to_right")]


class Request(BaseModel):
    """Base of requests: an unknown field is an error, so a typo is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BloomFilterEntry(Request):
    """Posts that the client knows were seen, as a Bloom filter of pipelines/feed/bloom.py."""

    bits: Base64Bytes = Field(description="bit 0 is the lowest of the first byte")
    num_bits: int = Field(ge=1, le=MAX_BITS)
    num_hashes: int = Field(ge=1, le=MAX_HASHES)
    seed: int = Field(default=0, ge=0, le=2**64 - 1)

    @model_validator(mode="after")
    def _is_whole(self) -> BloomFilterEntry:
        self.filter()
        return self

    def filter(self) -> BloomFilter:
        """The filter itself."""
        return BloomFilter(self.bits, self.num_bits, self.num_hashes, self.seed)


class Wishes(Request):
    """What a page may hold, whoever asks, and with what client."""

    zoom: Level | None = Field(
        default=None,
        description="the page is made of posts near what the viewer liked, and of no others: 0 "
        "(coarse) = on the same subject, 1 (fine) = saying the same, auto = by how varied the "
        "likes are; needs a bundle with prefix vectors",
    )
    in_network_only: bool = Field(default=False, description="only posts by followed authors")
    exclude_video: bool = Field(default=False, description="no videos")
    topic_ids: list[Id] = Field(
        default_factory=list, max_length=100, description="only posts on one of these topics"
    )
    excluded_topic_ids: list[Id] = Field(
        default_factory=list, max_length=100, description="no posts on any of these topics"
    )
    seen_ids: list[Id] = Field(
        default_factory=list,
        max_length=10_000,
        description="posts that the client knows were seen; none of them is shown",
    )
    bloom_filter_entries: list[Annotated[BloomFilterEntry, BeforeValidator(_from_json)]] = Field(
        default_factory=list,
        max_length=16,
        description="more such posts; one that was not seen is left out now and then",
    )
    served_ids: list[Id] = Field(
        default_factory=list, max_length=10_000, description="posts that the client has loaded"
    )
    is_bottom_request: bool = Field(
        default=False,
        description="the viewer scrolls on below `served_ids`: none of them is shown",
    )
    client_app_id: int = Field(default=0, ge=0, le=2**31 - 1, description="program; 0 = unknown")
    country_code: str = Field(
        default="", pattern="^([A-Z]{2})?$", description="ISO 3166-1 alpha-2; empty = unknown"
    )
    language_code: str = Field(
        default="", max_length=12, description="BCP 47 tag of the client; empty = unknown"
    )


class FeedRequest(Wishes):
    """Ask for a viewer's next page."""

    user_id: Id = Field(description="the viewer; one never heard of gets a cold-start feed")
    feed: FeedName = "timeline"
    query: SearchText | None = Field(
        default=None, description="what to search for; the feed search needs it, no other takes it"
    )
    post_id: Id | None = Field(
        default=None,
        description="whose replies to show; the feed conversations needs it, no other takes it",
    )
    limit: int = Field(default=20, ge=1, le=100, description="posts wanted; fewer may exist")
    surface: int = Field(
        default=0,
        ge=0,
        le=15,
        description="product surface that the page is for; 0 = unknown: predictions are then for "
        "that of the viewer's newest event",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        max_length=16,
        description="settings for this page alone, as stage.component.setting; those that "
        "feed.yaml allows",
    )


class ExplainQuery(Wishes):
    """Ask why a viewer gets, or does not get, a post."""

    user_id: Id
    post_id: Id
    feed: FeedName = "timeline"
    query: SearchText | None = Field(default=None, description="as in the request of the page")
    focal_post_id: Id | None = Field(
        default=None, description="`post_id` in the request of the page"
    )
    limit: int = Field(default=20, ge=1, le=100, description="length of the page in question")
    surface: int = Field(default=0, ge=0, le=15, description="surface of the page in question")
    overrides: Annotated[dict[str, Any], BeforeValidator(_from_json)] = Field(
        default_factory=dict, description="settings of the page in question, as a JSON object"
    )


class Model(BaseModel):
    """What answered."""

    bundle: str = Field(description="path of the bundle")
    version: str = Field(description="changes with the bundle; its metrics do not count")
    as_of_ms: int = Field(description="newest event that the bundle knows; ms since 1970 UTC")


class Post(BaseModel):
    """One post of a page."""

    post_id: int
    author_id: int = Field(description="0 = unknown")
    rank: int = Field(description="place on the page, 1 = top")
    score: Number = Field(description="what the page is ordered by, moves for variety apart")
    sources: list[str] = Field(description="which sources brought it")
    p_action: dict[str, Number] = Field(
        description="predicted probability of each action that the training data shows, and "
        "seconds for dwell_time; "
        "empty on a cold start or when the ranker failed"
    )
    adjustments: dict[str, Number] = Field(
        description="what the score was multiplied by, by scorer; 1 = left as it was"
    )
    visibility: Literal["allow", "interstitial"] = Field(
        description="interstitial: show it behind a notice; the reason names the rule"
    )
    visibility_reason: str | None = Field(
        default=None, description="the rule that puts it behind a notice"
    )
    in_network: bool | None = Field(
        default=None, description="by the viewer or someone followed; null = could not be told"
    )
    reply_to_post_id: int = Field(default=0, description="the post that it answers; 0 = none")
    repost_of_post_id: int = Field(default=0, description="the post that it repeats; 0 = none")
    repost_author_id: int = Field(default=0, description="who wrote that one; 0 = unknown")
    quote_of_post_id: int = Field(default=0, description="the post that it quotes; 0 = none")
    conversation_id: int = Field(
        default=0, description="first post of its thread, its own id if it is none; 0 = unknown"
    )
    reason: str = Field(description="why the post is where it is, in words")


class Slot(BaseModel):
    """A place between the posts of a page for something else."""

    kind: str = Field(description="as feed.yaml names it, such as who_to_follow")
    position: int = Field(description="posts above it")
    author_ids: list[int] = Field(
        default_factory=list, description="of who_to_follow: whom to suggest, best first"
    )


class FeedResponse(BaseModel):
    """A page, best post first."""

    request_id: str = Field(
        description="names this page in the event log; of a feed other than the timeline it "
        "begins with the feed's name and a slash"
    )
    feed: str = Field(description="which feed this is a page of")
    user_id: int
    cold_start: bool = Field(description="the viewer is unknown: the feed is nobody's own")
    degraded: list[str] = Field(
        description="components that failed and were done without, as stage.name; "
        "without scorers.actions or scorers.value the order is by popularity"
    )
    arms: dict[str, str] = Field(description="experiment -> the arm that the viewer is in")
    now_ms: int = Field(description="the server's idea of now; ms since 1970 UTC")
    model: Model
    posts: list[Post]
    slots: list[Slot] = Field(
        default_factory=list,
        description="places between posts, top first; see `slots` of feed.yaml",
    )


class Explained(BaseModel):
    """Base of an explanation's parts: read from the attributes of the feed's own."""

    model_config = ConfigDict(from_attributes=True)


class Brought(Explained):
    """A source that brought the post."""

    source: str
    rank: int = Field(description="1 = the best that this source found")
    value: Number = Field(description="what the source ranks by")
    meaning: str


class Verdict(Explained):
    """What one filter said."""

    filter: str
    kept: bool
    outcome: str = Field(description="ok, or why the filter did not run and its default decided")
    looked_at: dict[str, Number] = Field(description="the post's columns that it judged by")


class Term(Explained):
    """One action's part in a post's value."""

    action: str
    amount: Number = Field(description="probability, or seconds for dwell_time")
    weight: Number
    points: Number = Field(description="amount times weight")


class Score(Explained):
    """How the score came about: base_score times every multiplier."""

    basis: Literal["value", "popularity"]
    terms: list[Term] = Field(description="largest first; they add up to value")
    value: Number
    base_score: Number = Field(
        description="value, lifted so that it is never negative, plus what scorers add; see notes"
    )
    multipliers: dict[str, Number]
    score: Number
    notes: list[str] = Field(description="what scorers did to it, in words")
    numbers: dict[str, dict[str, Numbers]] = Field(
        default_factory=dict,
        description="scorer -> what it computed beside its effect, by name; lists per scale",
    )


class Explanation(Explained):
    """The way of one post through the viewer's feed."""

    post_id: int
    outcome: Literal["served", "below", "cut", "dropped", "not_retrieved"]
    place: int | None = Field(description="on the page, 1 = top")
    rank: int | None = Field(description="by score among those that passed the filters, 1 = best")
    sources: list[Brought]
    filters: list[Verdict]
    dropped_by: list[str]
    notes: list[str] = Field(description="what is known of it, in words, such as a label")
    score: Score | None
    similarity: float | None = Field(
        description="of a post not retrieved: how near it is to the viewer, as the value of "
        "two_tower in last_in; null = one of the two has no place yet"
    )
    last_in: list[Brought] = Field(
        description="of a post not retrieved: the last post that each source brought"
    )
    summary: str = Field(description="all this in one sentence")


class ExplainResponse(BaseModel):
    """Why a viewer gets a post, or does not."""

    user_id: int
    cold_start: bool
    degraded: list[str] = Field(description="as in a feed")
    model: Model
    explanation: Explanation


class Following(BaseModel):
    """How far a replica is with what happened; see serve.live.following."""

    caught_up: bool = Field(
        description="whether it knew all that had been written when it started; stays so"
    )
    lag: dict[str, int | None] = Field(
        description="events written and not read yet, by who reads; null = not known"
    )
    applied: dict[str, int] = Field(description="events read since the start")
    started_from: str | None = Field(
        default=None, description="a snapshot, or the whole journal and why that"
    )
    unreadable: int = Field(description="messages put aside because they cannot be read")
    problem: str | None = Field(description="what holds it up")


class Health(BaseModel):
    """What a replica is serving."""

    status: Literal["ok", "stale", "unlogged", "behind"] = Field(
        description="stale: a newer bundle could not be loaded, by this replica or by one of "
        "the models', or a newer file of labels or preferences; all go on with the one before; "
        "unlogged: impressions or audits cannot be written; behind: what happened is not all "
        "known, or cannot be read"
    )
    model: Model
    versions: dict[str, list[str]] = Field(
        description="bundle version of each replica of the models' deployments that answered "
        "within a second; empty where the models are in this replica"
    )
    in_flight: int = Field(description="requests being answered by this replica")
    failures: dict[str, int] = Field(description="failures since start, by component")
    events: Following | None = Field(
        default=None, description="null where no events are taken, and until a bundle is loaded"
    )
    problem: str | None = Field(default=None, description="why not ok, and who is not")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str
