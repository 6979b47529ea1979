"""The wire format of the feed: what a page is asked for with, and the page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, Field, model_validator

from pipelines.feed.bloom import MAX_BITS, MAX_HASHES, BloomFilter
from serve.api import FROM_JSON, FeedName, Id, Level, Model, Number, Request, SearchText


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
        "likes are; the usual page where nothing is near; needs a bundle with prefix vectors",
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
    bloom_filter_entries: list[Annotated[BloomFilterEntry, FROM_JSON]] = Field(
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
        description="components that failed and were done without, as stage.name, and sources "
        "that answered without some of their parts; "
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
