"""Posts whose texts are like a post's, for whoever asks."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.hydrators.subscriptions import Subscriptions
from pipelines.feed.hydrators.visibility import Visibility
from pipelines.feed.services import Graph
from pipelines.feed.stages import FeedQuery
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Verdict
from serve import api_similar
from serve.admission import UnavailableError
from serve.models import Nearby
from serve.requests import zoom_of
from serve.served_feed import ServedFeed
from serve.serving import Serving, UnknownPostError

_log = logging.getLogger("ray.serve")
_SPARE = 20  # posts asked for beyond twice those wanted: some may not be shown
_NOBODY = -1  # follows no one, and has no posts
_NONE = np.empty(0, np.int64)


async def similar(
    request: api_similar.SimilarQuery,
    serving: Serving,
    services: ServedFeed,
    rules: Visibility | None,
    now_ms: int,
    retry_after_s: int,
) -> api_similar.SimilarResponse:
    """Ask the models, and leave out what visibility rules keep from someone who follows nobody.

    Args:
        request: which post, and how near.
        serving: the bundle.
        services: knows labels and posts.
        rules: those of the timeline; None = it has none.
        now_ms: labels are those of then.
        retry_after_s: what to tell a client where the models do not answer.

    Raises:
        UnavailableError: they do not, or still serve a bundle without prefix vectors.
        UnknownPostError: the post has no text.
    """
    zoom = zoom_of(request.zoom)
    assert zoom is not None  # it has a default
    try:
        near = await serving.models.near(Nearby(request.post_id, 2 * request.num + _SPARE, zoom))
    except Exception as error:  # whatever holds the models up, the same may be asked again
        _log.warning("similar to post %d: %r", request.post_id, error)
        raise UnavailableError("posts cannot be compared now", retry_after_s) from error
    if not near.placed:
        raise UnknownPostError(f"post {request.post_id}: has no text that was encoded")
    facts = await services.posts(near.post_id)
    posts = Candidates({"post_id": near.post_id, **facts})
    shown = facts["known"] & await _for_everyone(posts, services, rules, now_ms)
    return api_similar.answer(request, serving.model, near, facts, shown)


async def _for_everyone(
    posts: Candidates, services: ServedFeed, rules: Visibility | None, now_ms: int
) -> NDArray[np.bool_]:
    """Whether each post [C] may be recommended to anyone."""
    graph = Graph(followed=_NONE, blocked=_NONE, muted=_NONE)
    query = FeedQuery(
        user_id=_NOBODY, limit=len(posts), now_ms=now_ms, request_id="", context={"graph": graph}
    )
    posts = posts.with_columns({"in_network": np.zeros(len(posts), np.bool_)})
    closed = await Subscriptions().hydrate(query, posts, services)
    free = ~(closed["for_subscribers"] | closed["repost_for_subscribers"])
    if rules is None:
        return free
    judged = await rules.hydrate(query, posts, services)
    return free & (judged["visibility"] < Verdict.DROP)
