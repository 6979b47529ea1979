"""Scores for audit: which requests are written down, and what of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.side_effects.audit import Audit
from serve.stores.audits import SCHEMA, audit
from serve.stores.event_log import EventLog
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, World

QUERY = World().query()


@pytest.mark.parametrize("user_id", [1, STRANGER])
def test_an_audit_holds_what_the_score_was_made_of(tmp_path, user_id):
    """Every scored post, best first, as it was; scores follow from base score and multipliers."""
    pool = serve(Pipeline.build(), World().query(user_id), World()).pool
    rows = audit(user_id, "r", 5, 2, "abc", pool)
    assert rows.schema == SCHEMA
    rows.validate(full=True)
    log = EventLog(tmp_path, "w", name="audits", max_age_s=60)
    log.append(rows)
    log.close()
    (path,) = tmp_path.iterdir()
    assert path.name == "audits-w-000000.parquet"
    read = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
    assert [row["post_id"] for row in read] == pool.post_id.tolist()
    assert [row["rank"] for row in read] == list(range(1, len(pool) + 1))
    for at, row in enumerate(read):
        about = [row[name] for name in ("request_id", "user_id", "at_ms", "surface", "bundle")]
        assert about == ["r", user_id, 5, 2, "abc"]
        product = row["base_score"] * np.prod(list(row["multipliers"].values()))
        assert row["score"] == pytest.approx(product, rel=1e-5)
        if "p_action" in pool:
            assert row["p_action"] == pool["p_action"][at].tolist()
        else:
            assert row["p_action"] is None


def test_the_field_is_written_down_in_shadow_too():
    """Both parts per scale and the dimension, of every scored post; what it added only if on."""
    rows = {}
    for mode in ("off", "shadow", "on"):
        feed = Pipeline.build(FeedConfig(scorers={"interference": {"mode": mode}}))
        pool = serve(feed, World().query(1), World()).pool
        rows[mode] = audit(1, "r", 5, 2, "abc", pool)["interference"].to_pylist()
    assert set(rows["off"]) == {None}
    for row in rows["shadow"]:
        assert row["worth"] is None
        assert row["field"] == pytest.approx(sum(row["constructive"]) + sum(row["destructive"]))
        assert (row["dimension"], row["ratio"]) == (2.5, 0.25)
    assert all(row["worth"] == pytest.approx(0.5 * row["field"]) for row in rows["on"])


def test_no_posts_are_no_rows():
    """A pool without posts and multipliers is a table all the same."""
    pool = serve(Pipeline.build(), QUERY, World()).pool.take(slice(0))
    assert audit(1, "r", 5, 2, "abc", pool).equals(SCHEMA.empty_table())


def test_the_share_is_of_requests_and_follows_from_their_ids():
    """Off by default; a larger share has all of a smaller one; everyone agrees on which."""
    queries = [replace(QUERY, request_id=f"request {n}") for n in range(4000)]
    none, some, more, every = (
        np.array([Audit(share=share).enabled(query) for query in queries])
        for share in (0, 0.1, 0.3, 1)
    )
    assert not Audit().enabled(QUERY)
    assert (none.any(), every.all()) == (False, True)
    assert abs(some.mean() - 0.1) < 0.02
    assert (some <= more).all()


def test_the_whole_pool_is_written_down():
    """Not the page alone: what was beaten is part of why it was."""
    world = World()
    pipeline = Pipeline.build(FeedConfig(side_effects={"audit": {"share": 1}}))

    async def body():
        result = await pipeline.run(world.query(), world)
        pipeline.start_side_effects(result, world)
        await pipeline.drain()
        return result

    result = asyncio.run(body())
    assert world.audited == [("r1", result.pool.post_id.tolist())]
    assert len(result.pool) > len(result.page)
    assert isinstance(audit(1, "r", 5, 2, "abc", result.pool), pa.Table)
