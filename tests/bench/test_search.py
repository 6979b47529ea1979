"""Search over 100,000 made-up posts: `pytest -m bench tests/bench/test_search.py`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import configs
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import By, Hits
from serve.stores.search import WordIndex
from tests.pipelines.feed.world import Disturbed, World

pytestmark = pytest.mark.bench
NUM_POSTS, NUM_WORDS, LENGTH, SIZE, NUM_RUNS = 100_000, 50_000, 12, 384, 100
FEED = Path(__file__).parents[2] / "configs" / "feeds" / "search.yaml"


def texts(rng: np.random.Generator) -> pa.Table:
    """Posts of twelve words, the n-th most common drawn with a chance in proportion to 1 / n."""
    chance = 1 / np.arange(1, NUM_WORDS + 1)
    words = rng.choice(NUM_WORDS, (NUM_POSTS, LENGTH), p=chance / chance.sum())
    said = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
    return pa.table({"post_id": np.arange(1, NUM_POSTS + 1), "text": said})


def test_search_of_100_000_posts(capsys):
    """Prints milliseconds (median, 99th percentile) of whole requests, and of indexing."""
    rng = np.random.default_rng(0)
    posts, index = texts(rng), WordIndex()
    started = time.perf_counter()
    index.add(posts)
    built_s = time.perf_counter() - started
    started = time.perf_counter()
    index.add(pa.table({"post_id": [NUM_POSTS + 1], "text": ["w5 w90"]}))
    added_ms = (time.perf_counter() - started) * 1000
    vectors = rng.normal(size=(NUM_POSTS + 1, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    world = World(num_posts=NUM_POSTS + 1, num_authors=5000)

    async def search(text: str, num_posts: int, by: By) -> Hits:
        if by == "words":
            return index.search(text, num_posts)
        cosine = vectors @ vectors[hash(text) % NUM_POSTS]
        rows = np.argpartition(-cosine, num_posts)[:num_posts]
        rows = rows[np.argsort(-cosine[rows])]
        return Hits(rows + 1, cosine[rows])

    async def match(text: str, post_id: np.ndarray) -> dict[By, np.ndarray]:
        cosine = vectors[post_id - 1] @ vectors[hash(text) % NUM_POSTS]
        return {"words": index.match(text, post_id), "meaning": cosine.astype(np.float64)}

    feed = Pipeline.build(configs.load(FEED, FeedConfig))
    services = Disturbed(world, search=search, match=match)
    asked = [" ".join(f"w{w}" for w in row) for row in rng.integers(0, 2000, (NUM_RUNS, 3))]

    async def runs() -> list[tuple[float, float]]:
        spent = []
        for text in asked:
            started = time.perf_counter()
            query = replace(world.query(1, limit=20), text=text)
            result = await feed.run(query, services)
            took = time.perf_counter() - started
            assert result.degraded == ()
            by_words = next(e.ms for e in result.trace if e.name == "text_search")
            spent.append((took * 1000, by_words))
        return spent

    whole, words = np.array(asyncio.run(runs())).T
    with capsys.disabled():
        print(
            f"\nsearch, 3 words over {NUM_POSTS:,} posts: {np.median(whole):.1f} ms a request "
            f"(99 %: {np.quantile(whole, 0.99):.1f}), of it words {np.median(words):.2f}; "
            f"indexed in {built_s:.1f} s, one post added in {added_ms:.1f} ms"
        )
