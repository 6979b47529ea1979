"""POST /v1/events, and what the feed makes of what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.schema import COUNTED, ENGAGEMENTS
from serve import api_events
from serve.deployments import local_models
from serve.feed_handler import FeedHandler
from serve.live.counts import LiveCounts
from serve.live.following import LiveSettings
from serve.live.journal import JournalError, Reader
from serve.live.messages import Message, happened, message
from serve.live.snapshots import Snapshots, SnapshotSettings
from serve.live.state import LiveState
from serve.routes import create_app
from serve.stores.event_log import EventLog
from serve.stores.recent import RecentPosts
from serve.stores.viewers import SqliteViewers

TIMES = st.integers(0, 6)
LIKE = {"kind": "engagement", "user_id": 1, "post_id": 2, "action": "favorite"}
POST = {"kind": "post", "post_id": 900_000, "author_id": 5, "text": "rain"}


class Written:
    """A journal that keeps everything, or refuses."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.broken = False

    def append(self, messages: Sequence[Message]) -> list[bool]:
        """Keep what is new."""
        if self.broken:
            raise JournalError("disk full")
        new = []
        for one in messages:
            new.append(one.key not in self.messages)
            self.messages.setdefault(one.key, one)
        return new

    def reader(
        self, topics: Sequence[str], group: str | None = None, after: Mapping | None = None
    ) -> Reader:
        """Nobody reads this one."""
        raise JournalError("not to be read")

    def identity(self) -> str:
        """There is one."""
        return "written"

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def ask(bundle, tmp_path):
    """Run `test(client, handler, journal)` against a fresh handler."""
    feed = load("configs/feed.yaml", FeedConfig)

    def run(test) -> None:
        async def body() -> None:
            journal = Written()
            log = EventLog(tmp_path, "test", max_age_s=60)
            handler = FeedHandler(Pipeline.build(feed), log, clock="log", journal=journal)
            handler.use(bundle, local_models(bundle))
            transport = httpx.ASGITransport(create_app(handler))
            async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
                await test(client, handler, journal)
            await handler.close()

        asyncio.run(body())

    return run


def test_valid_events_are_written_and_invalid_ones_say_why(ask):
    """Each event of a request is judged by itself: what is valid lasts, what is not says where."""
    wrong = [
        ({**LIKE, "action": "favourite"}, "action: Value error, no such action; did you mean"),
        ({**LIKE, "post_id": 0}, "post_id: Input should be greater than or equal to 1"),
        ({**LIKE, "post_id": True}, "post_id: Value error, a number is expected"),
        ({**LIKE, "at_ms": False}, "at_ms: Value error, a number is expected"),
        ({**LIKE, "at_ms": 10**15}, "s ahead of the server's time; at most 0 s"),
        ({**LIKE, "action": "dwell_time"}, "dwell_time needs it"),
        ({**LIKE, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"kind": "nothing"}, "'post', 'deletion', 'engagement'"),
        (7, "valid dictionary"),
    ]

    async def test(client, handler, journal):
        events = [LIKE, *(event for event, _ in wrong), POST]
        reply = await client.post("/v1/events", json={"events": events})
        assert reply.status_code == 207
        first, *refused, last = reply.json()["results"]
        assert first == last == {"status": "accepted", "problem": None}
        for (event, said), result in zip(wrong, refused, strict=True):
            assert result["status"] == "invalid"
            assert said in result["problem"], event
        assert len(journal.messages) == 2
        read, problems = happened(list(journal.messages.values()))
        assert problems == [None, None]
        assert read.engagements["at_ms"][0].as_py() <= handler.now_ms()
        assert read.posts["text"].to_pylist() == ["rain"]

    ask(test)


def test_the_status_says_whether_all_or_none_are_valid(ask):
    """202 = all are written, 422 = none is, whether the request or each event is wrong."""

    async def test(client, *_):
        for events, status in (
            ([LIKE], 202),
            ([{**LIKE, "user_id": None}], 422),
            ([], 422),
            ([LIKE] * 1001, 422),
        ):
            assert (await client.post("/v1/events", json={"events": events})).status_code == status

    ask(test)


def test_an_event_that_is_sent_twice_counts_once(ask):
    """Events of one name, sent again or twice in one request, are duplicates and no error."""

    async def test(client, _, journal):
        named = {**LIKE, "event_id": "a"}
        reply = await client.post("/v1/events", json={"events": [named, named, POST]})
        statuses = [result["status"] for result in reply.json()["results"]]
        assert statuses == ["accepted", "duplicate", "accepted"]
        reply = await client.post("/v1/events", json={"events": [named, POST]})
        assert reply.status_code == 202
        assert {result["status"] for result in reply.json()["results"]} == {"duplicate"}
        assert len(journal.messages) == 2

    ask(test)


def test_what_cannot_be_written_is_not_accepted(ask):
    """While the journal refuses, the answer is a 503 that says when to try again."""

    async def test(client, _, journal):
        journal.broken = True
        reply = await client.post("/v1/events", json={"events": [LIKE]})
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        assert "disk full" in reply.json()["detail"]
        journal.broken = False
        assert (await client.post("/v1/events", json={"events": [LIKE]})).status_code == 202

    ask(test)


def test_followed_authors_new_posts_are_in_the_feed(ask, world):
    """A post that came after the bundle is on its followers' next page, and one deleted is not."""
    follower, author = (world.follows[name][0].as_py() for name in ("follower_id", "followee_id"))

    async def page(client):
        body = {"user_id": follower, "limit": 100, "in_network_only": True}
        posts = (await client.post("/v1/feed", json=body)).json()["posts"]
        return {post["post_id"]: post for post in posts}

    async def apply(client, handler, journal, event):
        """What the follower of the journal does."""
        journal.messages.clear()
        assert (await client.post("/v1/events", json={"events": [event]})).status_code == 202
        handler._live.apply(happened(list(journal.messages.values()))[0])

    async def test(client, handler, journal):
        assert POST["post_id"] not in await page(client)
        await apply(client, handler, journal, {**POST, "author_id": author})
        found = (await page(client))[POST["post_id"]]
        assert found["author_id"] == author
        assert "in_network" in found["sources"]
        handler._viewers = SqliteViewers()  # so that what was served does not keep it out
        await apply(client, handler, journal, {"kind": "deletion", "post_id": POST["post_id"]})
        assert POST["post_id"] not in await page(client)

    ask(test)


def test_engagements_count_from_the_moment_they_are_told(ask, bundle):
    """Counts of a post are the bundle's and those told since; a newer bundle has the latter."""

    async def test(client, handler, journal):
        stores = handler._now_serving().stores
        post = np.array([bundle.posts["post_id"][0].as_py()])
        before = stores.engagement(post, handler.now_ms())["num_likes"][0]
        events = [
            {**LIKE, "post_id": int(post[0]), "user_id": user_id, "action": action}
            for user_id in (1, 2, 3)
            for action in ("favorite", "click")
        ]
        await client.post("/v1/events", json={"events": events})
        handler._live.apply(happened(list(journal.messages.values()))[0])
        assert stores.engagement(post, handler.now_ms())["num_likes"][0] == before + 3
        handler._live.counts.count_since(handler.now_ms())
        assert stores.engagement(post, handler.now_ms())["num_likes"][0] == before

    ask(test)


def test_the_logs_clock_goes_on_after_a_restart(ask):
    """A server on the log's clock that reads of later events does not take them for the future."""

    async def test(client, handler, journal):
        later = handler.now_ms() + 50_000
        told = await client.post("/v1/events", json={"events": [{**LIKE, "at_ms": later}]})
        assert told.status_code == 422
        event = api_events.Engagement(**LIKE, at_ms=later)
        handler._live.apply(happened([message(event)])[0])
        assert later <= handler.now_ms() < later + 60_000
        handler._live.newest_s -= 60
        assert handler.now_ms() >= later + 60_000

    ask(test)


def test_the_logs_clock_can_begin_with_a_snapshot(bundle, tmp_path):
    """A server on the log's clock that starts from a snapshot knows what it did before."""
    place = SnapshotSettings(directory=str(tmp_path / "snapshots"))
    pipeline, live = Pipeline.build(load("configs/feed.yaml", FeedConfig)), LiveSettings()
    models, gone = local_models(bundle), bundle.posts["post_id"][0].as_py()
    deleted = api_events.Deletion(kind="deletion", post_id=gone, deleted_at_ms=bundle.as_of_ms)
    for known in (False, True):
        handler = FeedHandler(
            pipeline,
            EventLog(tmp_path, "test", max_age_s=60),
            clock="log",
            journal=Written(),
            live=live.model_copy(update={"snapshots": place}),
        )
        handler.use(bundle, models)
        assert handler._now_serving().stores.posts.has(gone) == (not known)
        handler._live.apply(happened([message(deleted)])[0])
        writer = Snapshots(place, handler._live.freeze, Written())
        writer.checkpoint({"a": 1}, {})
        writer.close()
        asyncio.run(handler.close())


def test_both_stores_are_told_until_the_new_one_is_in_use(bundle):
    """While a bundle is being loaded, and if that fails, the one in use still learns of posts."""
    live = LiveState(RecentPosts(), lambda: bundle.as_of_ms)
    table = bundle.posts
    old = live.over(table, bundle.as_of_ms)
    live.adopt(old, bundle.as_of_ms)
    new = live.over(table, bundle.as_of_ms)
    gone = table["post_id"][0].as_py()
    events = [
        api_events.NewPost(**POST, created_at_ms=bundle.as_of_ms),
        api_events.Deletion(kind="deletion", post_id=gone, deleted_at_ms=bundle.as_of_ms),
    ]
    live.apply(happened([message(event) for event in events])[0])
    for store in (old, new):
        assert store.has(POST["post_id"])
        assert not store.has(gone)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["favorite", "reply"]), TIMES)),
    st.integers(0, 9),
    TIMES,
    TIMES,
)
def test_counts_are_of_what_was_done_in_between(acts, cut, since_ms, until_ms):
    """Whatever order acts come in, those after the bundle's end and by the instant count."""
    counts, known = LiveCounts(), np.arange(1, 5)
    for part in (acts[:cut], acts[cut:]):
        rows = [
            {"event_id": str(n), "user_id": 1, "post_id": p, "action": a, "at_ms": at}
            for n, (p, a, at) in enumerate(part)
        ]
        counts.add(pa.Table.from_pylist(rows, ENGAGEMENTS.arrow))
        assert counts.count_since(since_ms)
    for row, post_id in enumerate(known):
        for column, action in enumerate(COUNTED.values()):
            mine = [at for p, a, at in acts if (p, a) == (post_id, action) and at > since_ms]
            assert counts.of(known)[row, column] == len(mine)
            by_then = sum(at <= until_ms for at in mine)
            assert counts.of(known, max(until_ms, since_ms))[row, column] == (
                by_then if until_ms >= since_ms else 0
            )
