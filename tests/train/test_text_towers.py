"""Towers and a ranker that read text: what they know of posts and viewers never seen."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
import torch

from configs import load
from pipelines.facts import CONTENT, CONTENT_IDS, Facts
from pipelines.features import (
    FeatureSpec,
    History,
    example_inputs,
    history_inputs,
    history_rows,
    post_inputs,
)
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.schema import ACTION_NAMES
from serve.deployments import Retriever, local_models
from serve.feed_handler import FeedHandler
from serve.models import Search
from serve.routes import create_app
from serve.stores.event_log import EventLog
from serve.stores.profiles import ProfileStore
from tests.conftest import SHAPE, SPEC, UNKNOWN_USER
from tests.train.small_run import config, start, tables
from train.bundle import Bundle
from train.bundle import load as load_bundle
from train.content_bundle import SIMILARITY, frozen, write_content
from train.evaluate import evaluate
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import make_towers
from train.models.tokens import tensors
from train.rows import read_examples

SIZE = 12  # of a text vector
NO_TEXT = 5  # a post without one
TEXT_ALONE = {**dict.fromkeys(("ids", "context", "rates", "user_features"), False)} | {
    "content_size": SIZE
}
SMALL = {"emb_size": 16, "transformer": SHAPE}
FEED = Path(__file__).parents[2] / "configs" / "feed.yaml"


@pytest.fixture(scope="module")
def data(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with a random unit vector as each post's text, but for one post."""
    folder = tmp_path_factory.mktemp("texts") / "data"
    shutil.copytree(prepared, folder)
    post_id = np.sort(pl.read_parquet(folder / "posts.parquet")["post_id"].to_numpy())
    vectors = np.random.default_rng(0).normal(size=(len(post_id), SIZE))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    has = post_id != NO_TEXT
    np.save(folder / CONTENT, vectors[has].astype(np.float16))
    np.save(folder / CONTENT_IDS, post_id[has])
    return folder


@pytest.fixture(scope="module")
def content_bundle(data: Path) -> Bundle:
    """The bundle that needs no training."""
    write_content(data, data.parent / "bundle")
    return load_bundle(data.parent / "bundle")


def towers(**settings: object) -> RetrievalConfig:
    """Small towers over text alone, with other settings on top."""
    spec = {**SPEC, **TEXT_ALONE} | settings.pop("features", {})
    values = {"emb_size": 16, "transformer": SHAPE, "features": spec}
    return RetrievalConfig.model_validate(values | settings)


def history(did: dict[int, str]) -> History:
    """What one viewer did with posts, oldest first; the actions of each as words."""
    num = len(did)
    masks = [sum(1 << ACTION_NAMES.index(name) for name in words.split()) for words in did.values()]
    ids = np.array(list(did), np.int64)
    unknown = np.full(num, np.nan, np.float32)
    zeros = np.zeros(num, np.int64)
    return History(1, ids, zeros, np.array(masks), zeros.astype(np.int16), unknown, zeros)


def test_frozen_is_the_mean_of_what_was_liked(data):
    """A viewer is the mean text of liked posts: not of disliked ones, nor of those just shown."""
    facts, model = Facts.load(data), make_towers(frozen(SIZE))
    did = {1: "click", 2: "click not_interested", 3: "", 4: "favorite dwell", NO_TEXT: "click"}
    rows = history_rows([history(did), history({3: ""})], [0, 0])
    user = model.user(tensors(history_inputs(rows, model.config.features, facts))).numpy()
    expected = facts.content[facts.post_row(np.array([1, 4]))].sum(axis=0)

    np.testing.assert_allclose(user[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert not user[1].any()  # nothing is known of the taste of who liked nothing


def test_a_frozen_post_stands_at_its_text(data):
    """Posts are where their text is, and at zero where there is none."""
    facts, model = Facts.load(data), make_towers(frozen(SIZE))
    ids = np.array([7, NO_TEXT, 8])
    inputs = post_inputs(ids, ids, model.config.post_features, facts)
    expected = facts.content[facts.post_row(ids)]

    assert not list(model.posts(tensors(inputs))[1].nonzero())
    np.testing.assert_allclose(model.posts(tensors(inputs)).numpy(), expected, atol=1e-3)


def test_two_projections_are_all_there_is():
    """A text of 384 numbers is mapped to 256 on each side: 196,608 weights and the temperature."""
    spec = FeatureSpec(content_size=384)
    model = make_towers(RetrievalConfig(emb_size=256, features=spec, text="projected"))

    assert sum(p.numel() for p in model.parameters()) == 2 * 384 * 256 + 1


@pytest.mark.parametrize("text", ["projected", "beside"])
def test_without_ids_a_post_is_its_text(data, text):
    """Who wrote it and which number it has change neither post, nor viewer, nor prediction."""
    facts, rows = Facts.load(data), read_examples(data, "test").slice(0, 6)
    config = towers(text=text)
    torch.manual_seed(0)
    model = make_towers(config).eval()
    ranker = Ranker(RankerConfig(**{**SMALL, "features": config.features})).eval()
    inputs = tensors(example_inputs(rows, config.features, facts))
    ids = np.arange(20, 40)
    inputs |= tensors(post_inputs(ids, ids, config.post_features, facts))
    renamed = inputs | {
        name: values + (values > 0) for name, values in inputs.items() if name.endswith("_hashes")
    }
    changed = inputs | {"pool_content": inputs["pool_content"].roll(1, 0)}
    with torch.inference_mode():
        for call in (model.user, model.posts, ranker):
            torch.testing.assert_close(call(renamed), call(inputs))
        assert not torch.allclose(model.posts(changed), model.posts(inputs))
        past = inputs | {"history_content": inputs["history_content"].roll(1, -1)}
        assert not torch.allclose(model.user(past), model.user(inputs))
        assert not torch.allclose(ranker(past), ranker(inputs))


def test_the_full_post_tower_reads_text_and_topics(data):
    """Beside ids a post's text moves it, and its topics where they are asked for."""
    facts = Facts.load(data)
    config = towers(features={"ids": True, "context": True}, post_context=True)
    model = make_towers(config).eval()
    ids = np.arange(20, 40)
    inputs = tensors(post_inputs(ids, ids, config.post_features, facts))
    with torch.inference_mode():
        before = model.posts(inputs)
        for name in ("pool_content", "pool_context", "pool_post_hashes"):
            other = inputs | {name: inputs[name].roll(1, 0)}
            assert not torch.allclose(model.posts(other), before), name


@pytest.mark.parametrize("text", ["projected", "beside"])
def test_text_towers_learn(data, text):
    """A few steps on the same visits lower the loss on them."""
    learning = {"model": towers(text=text).model_dump()}
    settings = config("retrieval", {"lr": 1e-2}, learning=learning)
    trainer = start(settings, data)
    batch = trainer.learner.batch(tables(data, 64)[0], np.random.default_rng(0))
    losses = [trainer.step(batch, step)["loss"] for step in range(20)]

    assert losses[-1] < losses[0] - 0.1


def serve(bundle: Bundle, folder: Path, user_id: int) -> dict:
    """One reply of a feed in this process."""

    async def ask() -> dict:
        log = EventLog(folder, "test", max_age_s=60)
        handler = FeedHandler(Pipeline.build(load(FEED, FeedConfig)), log, clock="log")
        handler.use(bundle, local_models(bundle))
        transport = httpx.ASGITransport(create_app(handler))
        async with httpx.AsyncClient(transport=transport, base_url="http://feed") as client:
            reply = await client.post("/v1/feed", json={"user_id": user_id, "limit": 20})
        await handler.close()
        return reply.raise_for_status().json()

    return asyncio.run(ask())


def test_a_bundle_without_training_serves(content_bundle, tmp_path):
    """A known viewer gets posts like those liked, nearest first; a stranger what is popular."""
    feed = serve(content_bundle, tmp_path, user_id=1)
    assert (feed["cold_start"], feed["degraded"]) == (False, [])
    model, facts = content_bundle.load_two_tower(), content_bundle.facts
    past = ProfileStore(content_bundle.profiles).history(1)
    spec = model.config.features
    user = model.user(tensors(history_inputs(history_rows([past], [0]), spec, facts))).numpy()[0]
    near = {
        p["post_id"]: p["score"] / np.prod(list(p["adjustments"].values())) for p in feed["posts"]
    }
    cosine = facts.content[facts.post_row(np.array(list(near)))] @ user

    np.testing.assert_allclose(list(near.values()), cosine + 0.001, atol=2e-3)  # base_score.offset
    assert all(post["p_action"] == {} for post in feed["posts"])
    assert all(SIMILARITY in post["reason"] for post in feed["posts"])

    stranger = serve(content_bundle, tmp_path, UNKNOWN_USER)
    assert (stranger["cold_start"], stranger["degraded"]) == (True, [])
    assert all("popularity" in post["reason"] for post in stranger["posts"])


def test_who_liked_nothing_is_near_nothing(content_bundle, data):
    """Retrieval brings no posts for a viewer without a place, and does for one with."""
    retriever = Retriever(content_bundle)
    none, some = retriever.search(
        [
            Search(history({3: ""}), 10, 0),
            Search(history({3: "click"}), 10, 0),
        ]
    )
    assert len(none.post_id) == 0
    assert some.post_id[0] == 3


def test_a_bundle_without_training_is_measured(content_bundle, data):
    """Retrieval is measured beside the baselines; of actions nothing was learned."""
    results = evaluate(content_bundle, data)

    assert results["ranking"] == {}
    assert 0 <= results["retrieval"]["recall@10"]["model"] <= 1


def test_what_does_not_fit_is_said(data, prepared, tmp_path):
    """Missing vectors, vectors of another size and settings without sense are errors."""
    with pytest.raises(ValueError, match="no vectors of text; run `python -m pipelines"):
        write_content(prepared, tmp_path / "bundle")
    learning = {"model": towers(text="projected").model_dump()}
    with pytest.raises(ValueError, match=r"features\.content_size: 12, but .* no vectors"):
        start(config("retrieval", learning=learning), prepared)
    learning = {"model": {"features": {**SPEC, "content_size": 7}}}
    with pytest.raises(ValueError, match=r"features\.content_size: 7, but .* of 12 numbers"):
        start(config("ranker", learning=learning), data)
    for wrong, why in (
        ({"features": {"ids": False}}, "no content_size to go by"),
        ({"text": "projected"}, "needs features.content_size"),
        ({"text": "frozen", "features": {"content_size": 7}}, "emb_size must be"),
    ):
        with pytest.raises(ValueError, match=why):
            RetrievalConfig.model_validate(wrong)
