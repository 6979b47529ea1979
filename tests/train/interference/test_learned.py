"""What the product's own models learn of the planted set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.facts import Facts
from pipelines.features import FeatureSpec, candidate_inputs
from tests.train.interference.planted import write_ml_100k
from train.interference.learned import PhoenixRun, TowersRun, ranker_scores, towers
from train.interference.measures import measures
from train.interference.prepared import CLICK, examples, write
from train.interference.ratings import LIKED, Ratings, made, read
from train.interference.spaces import of_prefixes, unit
from train.interference.split import Split, SplitConfig, for_ranker
from train.models.likeness import LikenessConfig
from train.prefix.objectives import condition

SPLIT = SplitConfig(num_viewers=60, least_history=4, num_negatives=20)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> Ratings:
    """Of the planted archive: even viewers like even films."""
    return read("ml-100k", write_ml_100k(tmp_path_factory.mktemp("data")).parent)


@pytest.fixture(scope="module")
def splits(ratings) -> tuple[Split, Split]:
    """To learn from, and to test."""
    return for_ranker(ratings, SPLIT, 0, 20)


def kinds_apart(vectors: np.ndarray) -> float:
    """Mean cosine of films of one kind, less that of films of both."""
    near = vectors @ vectors.T
    same = np.arange(len(vectors))[:, None] % 2 == np.arange(len(vectors)) % 2
    return float(near[same].mean() - near[~same].mean())


def test_towers_tell_the_kinds_apart(ratings, splits):
    """Films that the same viewers like are near each other, by what may be learned from alone."""
    run = TowersRun(max_steps=20, batch_size=8)
    found = towers(ratings, splits[0].train, run)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert kinds_apart(found) > 0.05
    held = ~splits[0].train
    other = replace(ratings, item=np.where(held, ratings.item[::-1], ratings.item))
    np.testing.assert_array_equal(found, towers(other, splits[0].train, run))


@pytest.mark.parametrize("kind", ["field", "nearest"])
def test_the_ranker_learns_from_likeness(ratings, splits, kind):
    """Where vectors tell the kinds, a ranker that reads likeness puts the viewer's kind first."""
    learn, test = splits
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(2, 8))
    vectors = centre[np.arange(ratings.num_items) % 2] + 0.2 * rng.normal(
        size=(ratings.num_items, 8)
    )
    stops = np.arange(len(learn.viewer)) % 5 == 0
    run = PhoenixRun(num_epochs=8, patience=8, batch_size=8)
    likeness = LikenessConfig(kind=kind)
    found = ranker_scores(
        ratings, unit(vectors).astype(np.float32), learn, stops, test, run, likeness
    )
    assert found.shape == test.hit.shape
    chance = measures(rng.random(found.shape), test)["ndcg_10"].mean()
    assert measures(found, test)["ndcg_10"].mean() > chance + 0.05


def test_prefixes_draw_topics_together():
    """Of a head's vectors those of one genre are nearer than the encoder's were."""
    rng = np.random.default_rng(1)
    topic = np.arange(240) % 2 + 1
    content = unit(rng.normal(size=(240, 24)) + topic[:, None] * np.r_[3.0, np.zeros(23)])
    config = condition("own", num_levels=1, block_sizes=(8, 8)).model_copy(
        update={"num_epochs": 20, "batch_size": 32, "lr": 5e-3}
    )
    found = of_prefixes(content.astype(np.float32), topic, config, seed=0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert kinds_apart(found) > 2 * kinds_apart(content)


def test_rates_count_what_may_be_learned_from(ratings, splits, tmp_path: Path):
    """Prepared data knows of each post its likes among the rows learned from, and no others."""
    split = splits[0]
    write(tmp_path, ratings, split.train)
    facts, spec = Facts.load(tmp_path), FeatureSpec(context=False)
    ids = np.arange(1, ratings.num_items + 1)
    counts = facts.counts("post", ids, np.full_like(ids, 10_000), spec.num_actions)
    liked = split.train & (ratings.value >= LIKED)
    np.testing.assert_array_equal(counts[:, 0], np.bincount(ratings.item[split.train]))
    np.testing.assert_array_equal(counts[:, 1 + CLICK], np.bincount(ratings.item[liked]))
    rows = examples(split)
    post_id = np.array(rows["post_id"].to_pylist())
    zeros, at_ms = np.zeros_like(post_id), np.array(rows["shown_at_ms"].to_pylist())
    inputs = candidate_inputs(rows, post_id, zeros, zeros.astype(np.int16), at_ms, spec, facts)
    assert inputs["candidate_signals"].any(axis=(0, 1)).sum() > 3
    np.testing.assert_array_equal(np.array(rows["did"].to_pylist()) >> CLICK == 1, split.hit)


def test_five_stars_are_favorites(tmp_path: Path):
    """A history tells likes with five stars from those with four, and holds nothing below."""
    ratings = made(np.zeros(4, int), np.arange(4), np.array([5.0, 3.0, 4.0, 1.0]), np.arange(4))
    write(tmp_path, ratings, np.ones(4, bool))
    row = pq.read_table(tmp_path / "sequences").to_pylist()[0]
    assert row["history_post_id"] == [1, 3]
    assert row["history_did"] == [1 << CLICK | 1, 1 << CLICK]
