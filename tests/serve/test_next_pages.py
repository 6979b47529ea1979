"""Pages after the first are made from what was scored for it, and are the same all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.admission import Limits
from tests.serve.feed_server import pass_time, shown


def test_next_pages_are_made_from_the_cache_and_explained_as_they_were(run, models):
    """They hold other posts, need no search and no ranking, and explain repeats each of them.

    Explaining writes nothing: the cache is as it was, and so is the next page.
    """
    asked = []

    async def rank(ranking):
        asked.append(len(ranking.post_id))
        return await models.rank(ranking)

    async def test(client, handler):
        pages = []
        for _ in range(4):
            feed = (await client.post("/v1/feed", json={"user_id": 3, "limit": 5})).json()
            assert feed["degraded"] == []
            pages.append(feed["posts"])
            await shown(handler)
            pass_time(handler, 1)
        ids = [post["post_id"] for page in pages for post in page]
        assert len(set(ids)) == len(ids) == 20
        assert len(asked) == 1
        assert all("cached_posts" not in post["sources"] for post in pages[0])
        assert all("cached_posts" in post["sources"] for page in pages[1:] for post in page)
        held = dict(handler._candidates._entries._values)
        for number, page in enumerate(pages):
            for post in page:
                query = {"user_id": 3, "post_id": post["post_id"], "limit": 5}
                told = (await client.get("/v1/explain", params=query)).json()["explanation"]
                assert (told["outcome"], told["place"]) == ("served", post["rank"])
                assert told["score"]["score"] == pytest.approx(post["score"], rel=1e-5)
                sources = {brought["source"]: brought["meaning"] for brought in told["sources"]}
                assert ("cached_posts" in sources) == (number > 0)
        assert handler._candidates._entries._values == held

    run(test, models=replace(models, rank=rank))


def test_a_cache_of_no_bytes_changes_nothing_but_the_work(run):
    """With and without the cache the same pages come, but for what a later instant changes."""
    pages: list[list[int]] = []

    async def test(client, handler):
        for _page in range(3):
            feed = (await client.post("/v1/feed", json={"user_id": 4, "limit": 5})).json()
            pages.append([post["post_id"] for post in feed["posts"]])
            await shown(handler)
            pass_time(handler, 1)

    run(test)
    run(test, limits=Limits(cached_bytes=0))
    assert pages[:3] == pages[3:]
