"""What a next page costs: `pytest -m bench tests/bench/test_bench_cache.py`.

A real bundle of untrained models in this process, 1,000 candidates and more; pages of 20 posts.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve import api_feed
from serve.admission import Limits
from serve.deployments import local_models
from serve.feed_handler import FeedHandler
from serve.stores.event_log import EventLog
from tests.conftest import prepare_world, write_bundle
from train.bundle import Bundle, load

pytestmark = pytest.mark.bench
NUM_PAGES, NUM_VIEWERS = 6, 30


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Posts enough for every source to bring all it may."""
    folder = tmp_path_factory.mktemp("large")
    settings = SyntheticConfig(num_users=150, num_authors=150, num_posts=4000, num_events=20_000)
    World.make(settings).write(folder / "log")
    return load(write_bundle(prepare_world(folder / "log", folder / "data"), folder / "models"))


def pages(bundle: Bundle, folder: Path, cached_bytes: int) -> tuple[np.ndarray, np.ndarray, list]:
    """Milliseconds of each page, float [viewers, pages]; posts ranked for it; ids on it."""
    ranked: list[int] = []
    models = local_models(bundle)

    async def rank(ranking):
        ranked.append(len(ranking.post_id))
        return await models.rank(ranking)

    async def body():
        feed = FeedConfig(filters={"age": {"max_age_hours": 2160}})
        limits = Limits(cached_bytes=cached_bytes)
        log = EventLog(folder, f"w{cached_bytes}", max_age_s=60)
        handler = FeedHandler(Pipeline.build(feed), log, limits, clock="log")
        handler.use(bundle, type(models)(models.search, rank, models.value))
        await handler.feed(api_feed.FeedRequest(user_id=149))  # warm up
        ms, num, ids = [], [], []
        for user_id in range(1, 1 + NUM_VIEWERS):
            for _ in range(NUM_PAGES):
                ranked.clear()
                started = time.perf_counter()
                page = await handler.feed(api_feed.FeedRequest(user_id=user_id))
                ms.append((time.perf_counter() - started) * 1000)
                await asyncio.gather(*(each.drain() for each in handler._feeds.values()))
                num.append(sum(ranked))
                ids.append([post.post_id for post in page.posts])
        await handler.close()
        shape = NUM_VIEWERS, NUM_PAGES
        return np.array(ms).reshape(shape), np.array(num).reshape(shape), ids

    return asyncio.run(body())


def test_next_pages(large, tmp_path, capsys):
    """Prints milliseconds of each page, with the cache and without, and how alike they are."""
    with_cache, without = (pages(large, tmp_path, size) for size in (2**27, 0))
    same = np.mean(
        [len(set(a) & set(b)) / 20 for a, b in zip(with_cache[2], without[2], strict=True)]
    )
    with capsys.disabled():
        print("\npage, ms with the cache and without (medians), ratio, posts ranked")
        for page in range(NUM_PAGES):
            a, b = (float(np.median(ms[:, page])) for ms, _, _ in (with_cache, without))
            num = [int(np.median(ranked[:, page])) for _, ranked, _ in (with_cache, without)]
            print(f"  {page + 1}: {a:.1f} {b:.1f} {b / a:.1f}x {num[0]} {num[1]}")
        print(f"  share of posts that both have on a page: {same:.3f}")
