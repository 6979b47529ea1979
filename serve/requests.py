"""Requests in the words of the feed: which one is asked, and for what."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from configs import ConfigError, near_miss
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Zoom
from pipelines.feed.stages import FeedQuery
from serve import api, api_explain, api_feed

TIMELINE = "timeline"  # the feed of a request that names none
Asked = api_feed.FeedRequest | api_explain.ExplainQuery


class FieldError(ConfigError):
    """A field of a request that does not suit the feed that it asks for."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


def feed_of(feeds: Mapping[str, Pipeline], request: Asked) -> Pipeline:
    """The feed that is asked for, if the request gives what it requires and no more.

    Raises:
        FieldError: there is no such feed, or a field is missing or too many.
    """
    name = request.feed
    if name not in feeds:
        raise FieldError("feed", f"no such feed: {name!r}{near_miss(name, feeds)}")
    feed = feeds[name]
    focal_field = "post_id" if isinstance(request, api_feed.FeedRequest) else "focal_post_id"
    for part, field, value in (
        ("text", "query", request.query),
        ("focal_post_id", focal_field, _focal(request)),
    ):
        if part in feed.requires and value is None:
            raise FieldError(field, f"missing, and the feed {name} needs it")
        if part not in feed.requires and value is not None:
            takers = [n for n, other in feeds.items() if part in other.requires]
            told = f"only {', '.join(takers)}" if takers else "no feed"
            raise FieldError(field, f"the feed {name} takes none; {told} does")
    if request.zoom is not None and not feed.zooms:
        raise FieldError("zoom", f"the feed {name} takes none: it has no source prefix")
    if request.zoom is not None and request.in_network_only:
        raise FieldError("zoom", "not with in_network_only: a zoom finds posts by anyone")
    return feed


def query_of(request: Asked, now_ms: int) -> FeedQuery:
    """What the feed is asked, at `now_ms`."""
    return FeedQuery(
        user_id=request.user_id,
        limit=request.limit,
        now_ms=now_ms,
        request_id=_request_id(request.feed),
        feed=request.feed,
        text=request.query or "",
        focal_post_id=_focal(request) or 0,
        surface=request.surface,
        in_network_only=request.in_network_only,
        exclude_video=request.exclude_video,
        topic_ids=tuple(request.topic_ids),
        excluded_topic_ids=tuple(request.excluded_topic_ids),
        seen_ids=tuple(request.seen_ids),
        bloom_filters=tuple(entry.filter() for entry in request.bloom_filter_entries),
        served_ids=tuple(request.served_ids),
        is_bottom_request=request.is_bottom_request,
        client_app_id=request.client_app_id,
        country=request.country_code,
        language=request.language_code,
        overrides=request.overrides,
        zoom=zoom_of(request.zoom),
    )


def zoom_of(level: api.Level | None) -> Zoom | None:
    """A level's name as a number."""
    if isinstance(level, str) and level != "auto":
        return api.LEVELS[level]
    return level


def _focal(request: Asked) -> int | None:
    """The post whose replies are wanted; an explanation's own `post_id` is another."""
    return request.post_id if isinstance(request, api_feed.FeedRequest) else request.focal_post_id


def _request_id(feed: str) -> str:
    """Tells pages apart in the event log, and those of other feeds from the timeline's."""
    name = uuid.uuid4().hex
    return name if feed == TIMELINE else f"{feed}/{name}"
