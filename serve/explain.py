"""Why a viewer gets a post, or does not: the feed again, as of when the post was last shown."""

from __future__ import annotations

import asyncio
import logging

from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult
from pipelines.feed.stages import FeedQuery
from serve import api_explain
from serve.served_feed import AsItWas
from serve.serving import Serving
from serve.stores.viewers.store import ViewerStore, ViewerStoreError

_log = logging.getLogger("ray.serve")
_SIMILARITY_TIMEOUT_S = 1.0  # how long an explanation waits for it


async def last_shown_ms(viewers: ViewerStore, user_id: int, post_id: int) -> int | None:
    """When the viewer was last shown the post; None if not, as far as is known."""
    try:
        pages = await viewers.pages(user_id)
    except ViewerStoreError:  # `degraded` will say that it is not known
        return None
    return next((page.at_ms for page in reversed(pages) if post_id in page.post_id), None)


async def explain(
    feed: Pipeline, query: FeedQuery, services: AsItWas, serving: Serving
) -> api_explain.ExplainResponse:
    """Run the feed for `query` and follow `services.post_id` through it."""
    result = await feed.run(query, services)
    similarity = await _similarity(result, services)
    explanation = serving.explainer.explain(result, services.post_id, similarity)
    return api_explain.ExplainResponse(
        user_id=query.user_id,
        cold_start=result.cold_start,
        degraded=list(result.degraded),
        arms=dict(result.arms),
        model=serving.model,
        explanation=api_explain.Explanation.model_validate(explanation),
    )


async def _similarity(result: FeedResult, services: AsItWas) -> float | None:
    """Of the viewer and a post that no source brought; None if it cannot be told now.

    With a zoom neither: it is what two_tower goes by, which then stands back.
    """
    post_id, history = services.post_id, result.query.context.get("history")
    if history is None or result.query.zooms or result.retrieved.row_of(post_id) is not None:
        return None
    try:
        asked = services.similarity(history, post_id, result.query.now_ms)
        return await asyncio.wait_for(asked, _SIMILARITY_TIMEOUT_S)
    except Exception as error:  # the rest of the explanation holds without it
        _log.warning("no similarity of post %d: %r", post_id, error)
        return None
