"""A Retriever over shards answers as one that holds all posts, new ones and zoom included."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from configs import ConfigError, check
from serve.deployments import Ranker, Retriever, RetrieverSettings, Scorer, models_of
from serve.index_shard import IndexShard, Versions
from serve.models import Nearby
from serve.settings import Args
from serve.stores.prefix import PrefixSettings
from serve.stores.vectors import VectorsError
from serve.stores.vectors.sharded import Answer, Question, Stored
from tests.serve.feed_server import serving
from tests.serve.new_posts.world import searches
from tests.serve.prefix_data import fitted, with_texts
from train.bundle import Bundle, load
from train.bundle.part import Part
from train.content_bundle import write_content

NUM = 3


@pytest.fixture(scope="module")
def zooming(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with prefix vectors."""
    folder = tmp_path_factory.mktemp("sharded")
    data = with_texts(prepared, folder / "data")
    write_content(data, folder / "bundle", prefix=fitted(data, folder))
    return load(folder / "bundle")


def shards_of(bundle: Bundle) -> list[IndexShard]:
    """All shards of a bundle."""
    return [IndexShard(bundle.of_part(Part(number, NUM))) for number in range(NUM)]


def sharded(over, bundle: Bundle, shards: list[IndexShard], **settings: object) -> Retriever:
    """A Retriever that asks these."""
    answers = {f"IndexShard{number}": shard.answer for number, shard in enumerate(shards)}
    return Retriever(bundle, RetrieverSettings(**settings), over(answers))


def dead(_: Question) -> Answer:
    """A shard that is not there."""
    raise ConnectionError("dead")


def same(ours, theirs) -> None:
    """The same posts in the same order, by the same values."""
    np.testing.assert_array_equal(ours.post_id, theirs.post_id)
    values = (one.value if hasattr(one, "value") else one.similarity for one in (ours, theirs))
    np.testing.assert_allclose(*values, atol=1e-5)
    assert ours.missing == theirs.missing == ()


@pytest.mark.parametrize("two_stages_from", [1, 10**6])
def test_zoom_finds_what_one_index_finds(over, zooming, two_stages_from):
    """Coarse, fine, between and auto, of posts and viewers, in one stage and in two."""
    prefix = PrefixSettings(two_stages_from=two_stages_from, rescanned=60)
    one = Retriever(zooming, RetrieverSettings(prefix=prefix))
    many = sharded(over, zooming, shards_of(zooming), prefix=prefix)
    viewers = [search.history for search in searches(zooming, 1)]
    for zoom in (0.0, 0.3, 1.0, "auto"):
        asked = [Nearby(like, 25, zoom) for like in (40, 7, 10**9, *viewers)]
        for ours, theirs in zip(many.near(asked), one.near(asked), strict=True):
            same(ours, theirs)
            told = [(near.zoom, near.dims_read, near.placed) for near in (ours, theirs)]
            assert told[0] == told[1]


def test_a_shard_loads_its_part_alone(zooming):
    """Its index and facts are of its posts; the parts together are the whole."""
    parts = [zooming.of_part(Part(number, NUM)) for number in range(NUM)]
    for load_index in (lambda b: b.load_index(), lambda b: b.load_prefix_index().full):
        whole, held = load_index(zooming), [load_index(part) for part in parts]
        ids = np.concatenate([index.post_id for index in held])
        np.testing.assert_array_equal(np.sort(ids), np.sort(whole.post_id))
        vectors = np.concatenate([index.stored() for index in held])
        np.testing.assert_array_equal(
            vectors[np.argsort(ids)], whole.stored()[np.argsort(whole.post_id)]
        )
    for part in parts:
        ids = part.load_index().post_id
        np.testing.assert_array_equal(part.facts.post_id, ids)
        np.testing.assert_array_equal(part.post_columns("post_id")["post_id"].to_numpy(), ids)
        assert part.facts.content.shape == (len(ids) + 1, zooming.facts.content.shape[1])
        assert part.facts.content.strides[0] == 0  # held once, for all
    ids = zooming.facts.post_id
    empty = next(one for n in range(99) if not (one := Part(n, 10_000)).has(ids).any())
    with pytest.raises(ValueError, match="none of its 800 posts"):
        zooming.of_part(empty).load_index()


def test_a_dead_shard_flags_pages_health_and_similar(over, zooming, tmp_path):
    """A page, its metrics, /healthz and /v1/similar say what is missing, and go on without."""
    answers = {f"IndexShard{n}": shard.answer for n, shard in enumerate(shards_of(zooming))}
    held = Part(1, NUM)
    there = next(i for i in range(1, 800) if held.has(np.array([i]))[0])
    here = next(i for i in range(1, 800) if not held.has(np.array([i]))[0])
    shards = over(answers | {"IndexShard1": dead})
    retriever = Retriever(zooming, RetrieverSettings(), shards)
    versions = {"IndexShard0": ["v"], "IndexShard1": [], "IndexShard2": ["v"]}
    seen = []

    async def told():
        return versions

    async def body():
        models = replace(
            models_of(retriever, Ranker(zooming), Scorer(zooming)),
            versions=told,
            parts=tuple(versions),
        )
        async with serving(
            zooming, models, tmp_path, observe=lambda _, trace: seen.extend(trace)
        ) as (client, handler):
            versions.update(IndexShard0=[handler._serving.model.version])
            versions.update(IndexShard2=[handler._serving.model.version])
            for zoom in (None, "fine"):
                page = (await client.post("/v1/feed", json={"user_id": 3, "zoom": zoom})).json()
                source = "prefix" if zoom else "two_tower"
                assert f"sources.{source}" in page["degraded"]
                assert page["posts"]
                brought = [p["post_id"] for p in page["posts"] if p["sources"] == [source]]
                assert not held.has(np.array(brought, np.int64)).any()
            near = await client.get("/v1/similar", params={"post_id": here})
            assert near.json()["missing"] == ["IndexShard1"]
            assert near.json()["posts"]
            gone = await client.get("/v1/similar", params={"post_id": there})
            assert gone.status_code == 503
            health = (await client.get("/healthz")).json()
            assert health["status"] == "partial"
            assert "IndexShard1 does not answer" in health["problem"]
            assert health["failures"]["sources.two_tower"] >= 1

    asyncio.run(body())
    partial = [one for one in seen if one.outcome == "partial"]
    assert {one.name for one in partial} == {"two_tower", "prefix"}
    assert all("IndexShard1" in one.error and one.num_out for one in partial)


def test_vectors_of_two_bundles_never_meet(bundle, zooming):
    """While a Retriever asks for the bundle before it gets that; then it is let go of."""
    now = [0.0]
    versions = Versions(idle_s=30, clock=lambda: now[0])
    old, new = (IndexShard(one.of_part(Part(0, NUM))) for one in (bundle, zooming))
    ask = {one.version: Stored(one.version, "posts", np.array([1])) for one in (old, new)}
    versions.use(old)
    with pytest.raises(VectorsError, match=new.version):
        versions.answer(ask[new.version])
    versions.use(new)
    for now[0] in (20.0, 45.0, 70.0):
        assert versions.answer(ask[old.version]).values.shape[1] == 16
        versions.answer(ask[new.version])
    now[0] = 101.0
    versions.answer(ask[new.version])
    with pytest.raises(VectorsError, match=old.version):
        versions.answer(ask[old.version])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"topology": "fused", "retrieval": {"shards": 2}}, "topology: fused"),
        ({"retrieval": {"shards": 2, "vectors": {"kind": "pgvector"}}}, "kind: pgvector"),
    ],
)
def test_what_cannot_be_sharded_is_refused_at_the_start(args, said):
    """Shards in one replica, or of a table that all share, are errors that name the way out."""
    with pytest.raises((ConfigError, ValidationError), match=said):
        check(args, Args, place="args")
