"""Zoom over HTTP: from posts on the same subject to posts that say the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from pipelines.features import History
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.schema import ACTION_NAMES, POSTS
from serve.deployments import Retriever, local_models
from serve.models import Models, Nearby
from serve.stores.labels import LabelStore
from serve.stores.prefix import PrefixPosts, PrefixSettings, PrefixVectors
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import FEED, serving
from tests.serve.prefix_data import fitted, twin, with_texts
from train.bundle import Bundle, BundleError, load
from train.content_bundle import write_content
from train.prefix_index import PrefixIndex

POST = 40
WIDTHS = (4, 10)  # coarse, all


@pytest.fixture(scope="module")
def zooming(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle by text alone, with prefix vectors."""
    folder = tmp_path_factory.mktemp("zoom")
    data = with_texts(prepared, folder / "data")
    write_content(data, folder / "bundle", prefix=fitted(data, folder))
    return load(folder / "bundle")


@pytest.fixture(scope="module")
def retriever(zooming: Bundle) -> Retriever:
    """Of that bundle."""
    return Retriever(zooming)


def ask(
    bundle: Bundle, folder: Path, test, feed: FeedConfig = FEED, models=None, **settings
) -> None:
    """Run an async test against a client of the bundle."""

    async def body() -> None:
        using = serving(bundle, models or local_models(bundle), folder, feed, **settings)
        async with using as (client, _):
            await test(client)

    asyncio.run(body())


def liking(*post_id: int) -> History:
    """A viewer who liked these."""
    ids = np.array(post_id, np.int64)
    did = np.full(len(ids), 1 << ACTION_NAMES.index("favorite"))
    zeros = np.zeros(len(ids), np.int64)
    nan = np.full(len(ids), np.nan, np.float32)
    return History(1, ids, zeros, did, zeros.astype(np.int16), nan, zeros + 1)


def test_similar_posts_zoom_from_the_topic_to_the_twin(zooming, tmp_path):
    """Coarse, all are on the post's topic; fine, the near duplicate comes first; values add up."""

    async def test(client):
        async def similar(**params):
            reply = await client.get("/v1/similar", params={"post_id": POST, **params})
            assert reply.status_code == 200
            return reply.json()

        mine = (await similar(post_id=twin(POST), zoom="fine"))["posts"][0]
        assert mine["post_id"] == POST
        coarse = await similar(zoom="coarse", num=30)
        assert {post["topic_ids"][0] for post in coarse["posts"]} == {mine["topic_ids"][0]}
        assert coarse["dims_read"] < (await similar())["dims_read"]
        for zoom in (0, 0.3, 1):
            found = await similar(zoom=zoom)
            a = 1 - zoom / 2
            for post in found["posts"]:
                said = a * post["coarse"] + (1 - a) * post["fine"]
                assert post["similarity"] == pytest.approx(said, abs=1e-5)
                assert post["post_id"] != POST
            values = [post["similarity"] for post in found["posts"]]
            assert (found["zoom"], values) == (zoom, sorted(values, reverse=True))
            assert (found["posts"][0]["post_id"] == twin(POST)) >= (zoom > 0)
        assert (await similar(zoom="auto"))["zoom"] == 0.0  # the topic is settled

    ask(zooming, tmp_path, test)


def test_similar_posts_are_for_everyone_to_see(zooming, tmp_path):
    """Posts that a label drops or keeps for subscribers, of theirs or their author's, give way."""
    found = []

    async def test(client):
        reply = await client.get("/v1/similar", params={"post_id": POST, "num": 5})
        found.append(reply.json()["posts"])

    ask(zooming, tmp_path / "all", test)
    spam, paid, other = found[0][:3]
    labels = [
        {"kind": "post", "id": spam["post_id"], "label": "spam"},
        {"kind": "post", "id": paid["post_id"], "label": "for_subscribers"},
        {"kind": "author", "id": other["author_id"], "label": "suspended"},
    ]
    ask(zooming, tmp_path / "some", test, labels=LabelStore(pa.Table.from_pylist(labels)))
    shown = {post["post_id"] for post in found[1]}
    assert len(shown) == 5
    assert not shown & {spam["post_id"], paid["post_id"]}
    assert other["author_id"] not in {post["author_id"] for post in found[1]}


def test_models_that_cannot_zoom_yet_cost_no_page(zooming, tmp_path):
    """While models serve an older bundle, similar is 503 and a page with a zoom the usual one."""

    async def test(client):
        reply = await client.get("/v1/similar", params={"post_id": POST})
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        asked = {"user_id": 3, "zoom": "fine", "limit": 10}
        page = (await client.post("/v1/feed", json=asked)).json()
        assert page["degraded"] == ["sources.prefix"]
        sources = {source for post in page["posts"] for source in post["sources"]}
        assert "two_tower" in sources

    models = replace(local_models(zooming), near=Models.near)
    ask(zooming, tmp_path, test, models=models)


def test_a_page_zooms(zooming, retriever, tmp_path):
    """With a zoom all posts of a page are of that source; a new viewer gets the usual page."""

    async def test(client):
        for zoom in ("coarse", "fine", "auto", 0.25):
            asked = {"user_id": 3, "zoom": zoom, "limit": 10}
            page = (await client.post("/v1/feed", json=asked)).json()
            assert page["degraded"] == []
            assert page["posts"]
            assert {tuple(post["sources"]) for post in page["posts"]} == {("prefix",)}
            again = (await client.post("/v1/feed", json=asked)).json()  # now from the cache
            sources = {source for post in again["posts"] for source in post["sources"]}
            assert sources <= {"prefix", "cached_posts"}
        new = {"user_id": UNKNOWN_USER, "zoom": 0}
        page = (await client.post("/v1/feed", json=new)).json()
        assert {tuple(post["sources"]) for post in page["posts"]} == {("popular",)}

    ask(zooming, tmp_path, test)


def test_what_cannot_be_zoomed_is_said(zooming, bundle, tmp_path):
    """404 names an unknown post, 422 a wrong zoom, 409 a bundle without prefix vectors."""

    async def wrong(client):
        reply = await client.get("/v1/similar", params={"post_id": 10**9})
        assert (reply.status_code, "never heard of" in reply.json()["detail"]) == (404, True)
        for zoom in ("1.5", "-1", "near", "nan"):
            reply = await client.get("/v1/similar", params={"post_id": 1, "zoom": zoom})
            assert (reply.status_code, reply.json()["detail"][0]["loc"][1]) == (422, "zoom")
            reply = await client.post("/v1/feed", json={"user_id": 1, "zoom": zoom})
            assert reply.status_code == 422
        asked = {"user_id": 1, "zoom": 0.5, "in_network_only": True}
        reply = await client.post("/v1/feed", json=asked)
        assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["zoom"])

    async def without(client):
        replies = [
            await client.get("/v1/similar", params={"post_id": 1}),
            await client.post("/v1/feed", json={"user_id": 1, "zoom": 0.5}),
        ]
        for reply in replies:
            assert reply.status_code == 409
            assert "--prefix RUN" in reply.json()["detail"]
        assert (await client.post("/v1/feed", json={"user_id": 1})).status_code == 200

    ask(zooming, tmp_path / "a", wrong)
    ask(bundle, tmp_path / "b", without)
    always = FEED.model_copy(update={"sources": {"prefix": {"zoom": 0.5}}})
    with pytest.raises(BundleError, match=r"sources\.prefix\.zoom"):
        ask(bundle, tmp_path / "c", without, always)


def test_new_posts_are_found_and_removed_ones_are_not(zooming):
    """A post told since stands where the same text stood in the bundle, until it is deleted."""
    retriever = Retriever(zooming)
    facts = zooming.facts
    text = facts.content[facts.post_row(np.array([POST]))]
    row = {"post_id": 10**6, "author_id": 1, "created_at_ms": 1, "text": "as post 40"}
    retriever.add_posts(pa.Table.from_pylist([row], POSTS.arrow), text)
    for zoom in (0.0, 1.0):
        best = retriever.near([Nearby(10**6, 5, zoom)])[0]
        assert POST in best.post_id
        assert best.similarity[0] == pytest.approx(1, abs=1e-5)
    retriever.remove_posts(np.array([POST, 10**6]))
    assert not retriever.near([Nearby(POST, 5, 1.0)])[0].placed
    assert not np.isin(
        [POST, 10**6], retriever.near([Nearby(twin(POST), 50, 1.0)])[0].post_id
    ).any()


def test_a_taste_for_many_things_is_coarse(retriever, zooming):
    """auto: one subject liked is fine, many are coarse; liking nothing finds nothing."""
    posts = zooming.posts.sort_by("post_id")
    topic = np.array([one[0] for one in posts["topic_ids"].to_pylist()])
    ids = posts["post_id"].to_numpy()
    one, many = ids[topic == 1][:4], [ids[topic == t][0] for t in np.unique(topic)]
    assert retriever.near([Nearby(liking(*one), 5, "auto")])[0].zoom == 1.0
    assert retriever.near([Nearby(liking(*many), 5, "auto")])[0].zoom == 0.0
    assert not retriever.near([Nearby(liking(), 5, 0.5)])[0].placed


def test_a_fine_zoom_searches_whole_vectors():
    """Of many posts a coarse zoom reads the short prefix of all and few of the rest."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, WIDTHS[1])).astype(np.float32)
    index = PrefixIndex.build(np.arange(1, 51), vectors, WIDTHS[0])
    settings = PrefixSettings(two_stages_from=50, rescanned=10)
    posts = PrefixPosts(PrefixVectors.of(index, None), np.zeros_like, settings)
    read = {zoom: posts.near(Nearby(7, 3, zoom)).dims_read for zoom in (0.0, 0.49, 0.5, 1.0)}
    two_stages = 50 * WIDTHS[0] + 10 * WIDTHS[1]
    whole = 50 * WIDTHS[1]
    assert read == {0.0: 50 * WIDTHS[0], 0.49: two_stages, 0.5: whole, 1.0: whole}


@given(st.integers(0, 5), st.floats(0, 1), st.integers(1, 60))
def test_two_stages_find_what_one_finds(seed, zoom, num):
    """Where all are rescanned the result is that of comparing whole vectors, by any zoom."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(50, WIDTHS[1])).astype(np.float32)
    for part, length in zip(np.split(vectors, [WIDTHS[0]], axis=1), (0.6, 0.8), strict=True):
        part *= length / np.linalg.norm(part, axis=1, keepdims=True)
    ids = np.arange(1, 51)
    index = PrefixIndex.build(ids, vectors, WIDTHS[0])
    found = [
        PrefixPosts(PrefixVectors.of(index, None), np.zeros_like, settings).near(
            Nearby(7, num, zoom)
        )
        for settings in (
            PrefixSettings(),
            PrefixSettings(two_stages_from=1, whole_from_zoom=2, rescanned=50),
        )
    ]
    a = 1 - zoom / 2
    coarse, fine = (
        part[[6]] @ part.T / (part[6] @ part[6]) for part in np.split(vectors, [WIDTHS[0]], axis=1)
    )
    expected = np.delete((a * coarse + (1 - a) * fine)[0], 6)
    for near in found:
        np.testing.assert_allclose(near.similarity, np.sort(expected)[::-1][:num], atol=1e-5)


def test_the_stored_prefix_is_the_short_embedding(zooming):
    """Bit for bit: the coarse index holds the first numbers of whole vectors, in one order."""
    index = zooming.load_prefix_index()
    assert (index.coarse.post_id == index.full.post_id).all()
    first = index.full.stored()[:, : index.coarse_size]
    assert first.tobytes() == index.coarse.stored().tobytes()
    with pytest.raises(ConfigError, match="zoom"):
        Pipeline.build(FEED.model_copy(update={"sources": {"prefix": {"zoom": 2}}}))
