"""What was shown: why it was, and the log of it."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import check
from pipelines.data.job import DataConfig, prepare
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import shown
from train.rows import read_examples


def test_every_served_post_is_explained_where_it_was(run):
    """Asked after the page was shown, explain still says why each post was on it."""

    async def test(client, handler):
        for user_id in (3, UNKNOWN_USER):
            for _page in range(2):
                feed = (await client.post("/v1/feed", json={"user_id": user_id})).json()
                await shown(handler)
            for post in feed["posts"]:
                query = {"user_id": user_id, "post_id": post["post_id"]}
                reply = (await client.get("/v1/explain", params=query)).json()
                told = reply["explanation"]
                assert (told["outcome"], told["place"]) == ("served", post["rank"])
                assert told["score"]["score"] == pytest.approx(post["score"])
                assert reply["cold_start"] == (user_id == UNKNOWN_USER)

    run(test)


def test_explaining_is_not_showing(run, tmp_path):
    """Explain writes no impressions; a post that does not exist is 404."""

    async def test(client, _):
        reply = await client.get("/v1/explain", params={"user_id": 1, "post_id": 5})
        assert reply.status_code == 200
        missing = await client.get("/v1/explain", params={"user_id": 1, "post_id": 10**9})
        assert missing.status_code == 404
        assert "1000000000" in missing.json()["detail"]

    run(test)
    assert list(tmp_path.iterdir()) == []


def test_served_pages_are_in_the_event_log(run, tmp_path):
    """After a shutdown the log has a row for each served post, in order, by the log's clock."""
    served = []

    async def test(client, _):
        for user_id in (1, 2, UNKNOWN_USER):
            reply = await client.post("/v1/feed", json={"user_id": user_id, "limit": 4})
            served.append(reply.json())

    run(test)
    rows = pq.read_table(next(tmp_path.glob("*.parquet"))).to_pylist()
    assert [row["post_id"] for row in rows] == [
        post["post_id"] for feed in served for post in feed["posts"]
    ]
    assert [row["position"] for row in rows] == [0, 1, 2, 3] * 3
    assert {row["request_id"] for row in rows} == {feed["request_id"] for feed in served}
    assert all(row["shown_at_ms"] >= feed["model"]["as_of_ms"] for row in rows for feed in served)


def test_the_data_job_reads_the_event_log_back(run, prepared, tmp_path):
    """Served impressions are input for the next training: every row, none refused."""
    log = tmp_path / "events"

    async def test(client, _):
        for user_id in (1, 2, 2, UNKNOWN_USER):
            await client.post("/v1/feed", json={"user_id": user_id, "limit": 4})

    run(test, folder=log)
    (log / ".events-killed-000000.parquet.unfinished").write_bytes(b"PAR1 half a file")
    reader = {"name": "logs", "events": str(log), "posts": str(prepared / "posts.parquet")}
    split = {"validate_from": date(2100, 1, 1), "test_from": date(2100, 1, 2)}
    values = {"name": "served", "out": str(tmp_path / "out"), "reader": reader, "split": split}
    prepare(check(values, DataConfig, place="test"))
    examples = read_examples(tmp_path / "out", "train").to_pylist()
    by_viewer = {
        user_id: [p for row in examples if row["user_id"] == user_id for p in row["post_id"]]
        for user_id in (1, 2, UNKNOWN_USER)
    }
    served = [pq.read_table(path) for path in sorted(log.glob("*.parquet"))]
    for user_id, post_id in by_viewer.items():
        rows = [row for table in served for row in table.to_pylist() if row["user_id"] == user_id]
        assert post_id == [row["post_id"] for row in rows]
    assert all(observed == 0 for row in examples for observed in row["observed"])


def test_an_event_log_that_is_not_written_is_told_by_health(run, monkeypatch):
    """While impressions cannot be written /healthz says why, and is ok again afterwards."""

    def invalid(*_):
        raise pa.ArrowInvalid("no such type")

    async def test(client, handler):
        await client.post("/v1/feed", json={"user_id": 1})
        await shown(handler)
        with monkeypatch.context() as refusing:
            refusing.setattr(pq, "write_table", invalid)
            with pytest.raises(pa.ArrowInvalid):
                handler._event_log.flush()
        health = (await client.get("/healthz")).json()
        assert health["status"] == "unlogged"
        assert "ArrowInvalid('no such type') (0 impressions lost so far)" in health["problem"]
        handler._event_log.flush()
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test)
