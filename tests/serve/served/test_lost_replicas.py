"""Replicas that are killed cost no page and no impression."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from tests.serve.served.feed import eventually, kill_replicas

pytestmark = pytest.mark.ray


def test_a_killed_ranker_costs_no_answer(served):
    """When the only Ranker is killed, pages go on, degraded if need be, and recover."""
    kill_replicas("Ranker")
    pages = [served.feed(user_id) for user_id in range(1, 6)]
    assert {page.status_code for page in pages} == {200}
    assert all(page.json()["posts"] for page in pages)
    eventually(lambda: served.feed(1).json()["degraded"] == [])


def test_a_killed_ingress_comes_back(served):
    """After the only FeedHandler died, Serve starts another and the feed answers again."""
    kill_replicas("FeedHandler")
    eventually(lambda: served.feed(1).status_code == 200)


def test_impressions_are_in_the_event_log(served):
    """What a page showed can be read from the log, though replicas were killed before."""
    feed = served.feed(3).json()
    wanted = [post["post_id"] for post in feed["posts"]]

    def logged() -> list[int]:
        tables = [pq.read_table(path) for path in served.event_log.glob("*.parquet")]
        rows = [row for table in tables for row in table.to_pylist()]
        return [row["post_id"] for row in rows if row["request_id"] == feed["request_id"]]

    eventually(lambda: logged() == wanted)
