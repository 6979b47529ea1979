"""Feed cost with services that answer at once: `pytest -m bench tests/bench/test_feed.py`."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Hits
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.world import Disturbed, World

pytestmark = pytest.mark.bench
NUM_RUNS = 400


def ready(world: World) -> Disturbed:
    """A world whose answers are computed once, and which retrieves all of its posts."""
    hits = Hits(world.post_id, np.linspace(1, 0, len(world.post_id)))
    seen = asyncio.run(world.seen(1))
    facts = asyncio.run(world.posts(world.post_id))
    p_action = asyncio.run(world.rank(asyncio.run(world.history(1)), world.post_id, seen, 0, 0))

    def answer(value):
        async def service(*_):
            return value

        return service

    async def rank(_, post_id, *__):
        return p_action[: len(post_id)]

    async def value(p_action):
        return p_action[:, 0].astype(np.float64)

    async def labels(_, ids, __):
        return np.zeros(len(ids), np.int64)

    return Disturbed(
        world,
        labels=labels,
        retrieve=answer(hits),
        popular=answer(Hits(hits.post_id[::8], hits.value[::8])),
        recent=answer(Hits(hits.post_id[::4], hits.value[::4])),
        seen=answer(seen),
        posts=answer(facts),
        rank=rank,
        value=value,
    )


def test_feed_of_1500_posts(capsys):
    """Prints milliseconds (median of many runs) of a whole request and of each stage."""
    world = World(num_posts=1500, num_authors=300)
    services, pipeline = ready(world), Pipeline.build()

    async def runs():
        results, spent = [], []
        for _ in range(NUM_RUNS):
            started = time.perf_counter()
            results.append(await pipeline.run(world.query(1, limit=20), services))
            spent.append(time.perf_counter() - started)
        return results, spent

    results, spent = asyncio.run(runs())
    assert results[-1].degraded == ()
    stages = {entry.stage: 0.0 for entry in results[-1].trace}
    for stage in stages:
        stages[stage] = float(
            np.median([sum(e.ms for e in r.trace if e.stage == stage) for r in results])
        )
    explainer = Explainer(ACTION_NAMES)
    started = time.perf_counter()
    for result in results[-20:]:
        explainer.reasons(result)
    reasons_ms = (time.perf_counter() - started) * 1000 / 20
    with capsys.disabled():
        lines = [f"  {stage}: {ms:.3f}" for stage, ms in stages.items()]
        num = f"{len(results[-1].retrieved)} retrieved, {len(results[-1].scored)} scored"
        print(f"\nms per request ({num}): {np.median(spent) * 1000:.2f}", *lines, sep="\n")
        print(f"  reasons of 20 posts: {reasons_ms:.2f}")
