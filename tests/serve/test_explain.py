"""How near a post is that no source brought is part of why it is not shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from configs import check
from pipelines.feed.discover import FeedConfig
from tests.serve.feed_server import FEED, serving


def test_a_post_that_no_source_brought_has_its_similarity(bundle, models, tmp_path):
    """It is what the source ranks by, below that of the last one in; null if it cannot be told."""
    few = {"two_tower": {"num_posts": 5}, "popular": {"num_posts": 5}, "in_network": None}
    feed = check(FEED.model_dump() | {"sources": few}, FeedConfig, "")

    async def broken(_):
        raise ConnectionError("the index is down")

    async def body() -> None:
        async with serving(bundle, models, tmp_path, feed=feed) as (client, handler):
            told = []
            for post_id in range(1, 15):
                query = {"user_id": 1, "post_id": post_id}
                told.append((await client.get("/v1/explain", params=query)).json()["explanation"])
            far = [one for one in told if one["outcome"] == "not_retrieved"]
            assert far
            for one in far:
                last = {brought["source"]: brought for brought in one["last_in"]}["two_tower"]
                assert -1 <= one["similarity"] <= last["value"]
                assert f"its similarity is {one['similarity']:.2f}" in one["summary"]
            assert all(one["similarity"] is None for one in told if one not in far)
            handler.use(bundle, replace(models, similarity=broken))
            query["post_id"] = far[0]["post_id"]
            reply = await client.get("/v1/explain", params=query)
            assert reply.status_code == 200
            assert reply.json()["explanation"]["similarity"] is None

    asyncio.run(body())
