"""PostgreSQL with pgvector keeps what every index of vectors promises, and may fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from configs import ConfigError, check, load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve import api_explain, api_feed
from serve.deployments import RetrieverSettings, local_models
from serve.feed_handler import FeedHandler
from serve.stores.event_log import EventLog
from serve.stores.vectors import VectorsError, VectorSettings, open_vectors
from serve.stores.vectors.pgvector import PgVectors
from serve.stores.vectors.settings import PgVectorSettings
from tests.serve.vectors.contract import STEPS, check_search, check_steps, drawn, first_posts
from tests.services.postgres import Postgres
from train.index import PostIndex

pytestmark = pytest.mark.services
FEED = Path(__file__).parents[2] / "configs" / "feed.yaml"
ENV = "RAYFEED_TEST_DSN"
SETTINGS = PgVectorSettings(dsn_env=ENV, retry_after_s=0.1, timeout_s=2, num_tables=1000)
_VERSIONS = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """One server for all tests."""
    # Not below pytest's folder, which none but its owner may enter: run by root, the server is
    # another user's. And a socket's path is short.
    with TemporaryDirectory(prefix="rayfeed-") as folder:
        server = Postgres(Path(folder) / "data")
        server.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ENV, server.uri)
            yield server
        server.stop()


def fresh(**changes: object) -> tuple[PgVectors, dict]:
    """The posts of a new bundle, and the same as a dict."""
    index, topics, model = first_posts()
    settings = SETTINGS.model_copy(update=changes)
    return PgVectors.filled(settings, f"v{next(_VERSIONS)}", index, topics), model


@examples(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_changes_and_searches(postgres, steps):
    """Whatever was added and removed, and when, searches find what is there."""
    vectors, model = fresh()
    check_steps(vectors, model, steps)
    check_search(vectors, model, 99)
    vectors.close()


def test_an_index_over_vectors_misses_few(postgres):
    """With HNSW hundreds of posts come back, best first, nearly all of them the right ones."""
    rng = np.random.default_rng(0)
    placed = rng.normal(size=(3000, 8)).astype(np.float32)
    index, none = PostIndex.build(np.arange(1, 3001), placed), np.zeros((3000, 0), np.int64)
    settings = SETTINGS.model_copy(update={"hnsw_from": 1000})
    vectors = PgVectors.filled(settings, "large", index, none)
    query = rng.normal(size=(5, 8)).astype(np.float32)
    found, similarity = vectors.search(query, 500)
    expected = 1 + np.argsort(-(query @ placed.T), axis=1)[:, :500]

    assert found.shape == (5, 500)
    assert (np.diff(similarity, axis=1) <= 1e-6).all()
    common = [len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)]
    assert np.mean(common) / 500 >= 0.95
    with psycopg.connect(postgres.uri) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT post_id FROM rayfeed_vectors_large "
            "ORDER BY vector <#> (SELECT vector FROM rayfeed_vectors_large LIMIT 1) LIMIT 9"
        ).fetchall()
    assert "rayfeed_vectors_large_vector_idx" in str(plan)
    vectors.close()


def test_many_replicas_fill_a_table_once(postgres):
    """Replicas that start together use one table, which the first of them fills; all see all."""
    index, topics, model = first_posts()
    opened: list[PgVectors] = []

    def start() -> None:
        opened.append(PgVectors.filled(SETTINGS, "shared", index, topics))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_steps(opened[0], model, [("add", [33, 34]), ("remove", [1, 2, 33])])
    for vectors in opened:
        check_search(vectors, model, 3)
        vectors.close()


def test_two_bundles_never_mix(postgres):
    """Each version has its own table, and those that were longest not opened go."""
    few = SETTINGS.model_copy(update={"num_tables": 2, "prefix": "few"})
    index, topics, model = first_posts()
    other = PostIndex.build(index.post_id, drawn(4, len(index.post_id)))
    first = PgVectors.filled(few, "a", index, topics)
    second = PgVectors.filled(few, "b", other, topics)
    check_search(first, model, 0)
    query = drawn(1, 1)
    assert not np.allclose(first.search(query, 5)[1], second.search(query, 5)[1])
    PgVectors.filled(few, "a", index, topics).close()
    PgVectors.filled(few, "c", index, topics).close()
    check_search(first, model, 0)
    with pytest.raises(VectorsError, match="few_b"):
        second.search(query, 5)
    first.close()


def test_a_server_that_comes_back_is_used_again(postgres):
    """Killed, it fails calls, quickly; started again it answers, with all that was added."""
    vectors, model = fresh(retry_after_s=60.0)
    check_steps(vectors, model, [("add", [35, 36])])
    postgres.kill()
    with pytest.raises(VectorsError, match="PostgreSQL"):
        vectors.search(drawn(0, 1), 3)
    with pytest.raises(VectorsError, match="not asked again for a moment"):
        vectors.search(drawn(0, 1), 3)
    postgres.start()
    vectors._connections._down_until_s = 0.0  # the moment is over
    check_search(vectors, model, 1)
    vectors.close()


def test_a_server_started_anew_is_not_noticed(postgres):
    """Connections that died while idle are replaced without a failure."""
    vectors, model = fresh()
    check_search(vectors, model, 1)
    postgres.kill()
    postgres.start()
    check_search(vectors, model, 2)
    vectors.close()


def test_a_server_that_hangs_is_given_up(postgres):
    """One that takes requests and answers none fails a call within the time-out and a little."""
    vectors, model = fresh(timeout_s=0.2)
    check_search(vectors, model, 1)
    with postgres.frozen(), pytest.raises(VectorsError, match="PostgreSQL"):
        vectors.search(drawn(0, 1), 3)
    vectors._connections._down_until_s = 0.0
    check_search(vectors, model, 1)
    vectors.close()


def test_a_wrong_address_is_said(monkeypatch):
    """Without the variable, or with nobody at the address, opening says so and names it."""
    index, topics, _ = first_posts()
    monkeypatch.delenv(ENV, raising=False)
    with pytest.raises(ConfigError, match=ENV):
        PgVectors.filled(SETTINGS, "x", index, topics)
    monkeypatch.setenv(ENV, "host=/nowhere dbname=postgres")
    with pytest.raises(VectorsError, match="/nowhere"):
        PgVectors.filled(SETTINGS, "x", index, topics)


def test_a_feed_goes_on_without_it(postgres, bundle, tmp_path):
    """While the index is down pages are degraded, not refused; then they are whole again."""
    settings = VectorSettings(kind="pgvector", pgvector=SETTINGS)

    async def body() -> None:
        log = EventLog(tmp_path / "events", "test", max_age_s=60)
        every_page_anew = {"query_hydrators": {"cached_posts": None}}
        feed = check(load(FEED, FeedConfig).model_dump() | every_page_anew, FeedConfig, "test")
        handler = FeedHandler(Pipeline.build(feed), log, clock="log")
        handler.use(bundle, local_models(bundle, RetrieverSettings(vectors=settings)))
        ask = api_feed.FeedRequest(user_id=1, limit=5, topic_ids=[1, 2, 3])
        whole = await handler.feed(ask)
        assert whole.degraded == []
        await asyncio.to_thread(postgres.kill)
        page = await handler.feed(ask)
        assert page.degraded == ["sources.two_tower", "sources.two_tower_topics"]
        assert page.posts
        why = await handler.explain(api_explain.ExplainQuery(user_id=1, post_id=1))
        assert why.explanation.similarity is None
        await asyncio.to_thread(postgres.start)
        await asyncio.sleep(2 * SETTINGS.retry_after_s)
        assert (await handler.feed(ask)).degraded == []
        await handler.close()

    asyncio.run(body())
    found = open_vectors(settings, bundle, "again").search(np.ones((1, 16), np.float32), 5)[0]
    index = bundle.load_index()
    assert found.tolist() == index.search(np.ones((1, 16), np.float32), 5)[0].tolist()
