"""What features add, and long-tail recall at equal precision."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.interference.planted import write_ml_100k
from train.interference.columns import Groups, groups, matrix
from train.interference.lift import (
    Ranked,
    at_equal_precision,
    by_length,
    differences,
    rank,
)
from train.interference.measures import measures
from train.interference.ratings import Ratings, read
from train.interference.spaces import FactorConfig, factors, unit
from train.interference.split import Split, SplitConfig, for_ranker
from train.interference.study import Lift
from train.interference.tables import verdict
from train.models.fractal.config import FieldConfig
from train.trees import TreeSettings

pytest.importorskip("lightgbm")

SMALL = Lift(
    split=SplitConfig(num_viewers=60, least_history=4, num_negatives=20),
    num_learn=12,
    num_repeats=2,
    trees=TreeSettings(learning_rate=0.2, num_rounds=30, patience=10, min_data_in_leaf=5),
)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> Ratings:
    """Of the planted archive."""
    return read("ml-100k", write_ml_100k(tmp_path_factory.mktemp("data")).parent)


@pytest.fixture(scope="module")
def ranked(ratings) -> Ranked:
    """Arms that read noise, noise of another draw, and whether a film is of the viewer's kind."""

    def make(split: Split) -> Groups:
        rng = np.random.default_rng(len(split.candidates[0]))
        kind = (split.candidates % 2 == split.viewer[:, None] % 2).astype(float)
        draws = [rng.random(kind.shape) for _ in range(2)]
        return {"base": {"a": draws[0]}, "noise": {"b": draws[1]}, "kind": {"c": kind}}

    arms = {"base": ("base",), "noise": ("base", "noise"), "kind": ("base", "kind")}
    return rank(ratings, SMALL, arms, make)


def test_a_feature_that_tells_is_a_gain_and_noise_is_null(ranked):
    """The planted taste is found and called a gain; a column of noise is called null."""
    found = differences(ranked.values, [("kind", "base"), ("noise", "base")])["ndcg_10"]
    assert verdict(found["kind − base"]) == "gain"
    assert verdict(found["noise − base"]) == "null"


def test_lengths_part_the_viewers(ranked):
    """Every viewer is in exactly one bucket of lengths."""
    found = by_length(ranked, [("kind", "base")])
    assert sum(found["viewers"].values()) == len(ranked.lengths)
    inside = found["ndcg_10"]["9 to 20: kind − base"]
    assert inside["num"] == found["viewers"]["9 to 20"]


def test_equal_precision_of_an_arm_with_itself_changes_nothing(ranked):
    """At its own precision an arm has its own recall; a better arm goes deeper and has more."""
    found = at_equal_precision(ranked, [("base", "base"), ("kind", "base")], num_rounds=50)["10"]
    assert found["base − base"]["recall"] >= found["base − base"]["other"]
    assert found["kind − base"]["recall"] > found["kind − base"]["other"]


def test_equal_precision_cuts_where_the_precision_ends():
    """A list of hits first, cut at the precision of one with hits last, is taken whole."""
    hit = np.array([[True, True, False, False]])
    none = np.zeros((1, 0), np.int64)
    split = Split(
        np.ones(0, bool),
        np.zeros(1, int),
        none,
        none.astype(float),
        np.arange(4)[None],
        hit,
        np.zeros(4, int),
        np.ones(4, bool),
    )
    scores = {"best": [np.array([[4.0, 3, 2, 1]])], "worst": [np.array([[1.0, 2, 3, 4]])]}
    values = {arm: measures(of[0], split) for arm, of in scores.items()}
    ranked = Ranked(np.ones(1, int), values, [split], scores)
    found = at_equal_precision(ranked, [("best", "worst"), ("worst", "best")], (3,), 20)["3"]
    assert found["best − worst"]["recall"] == 1
    assert found["best − worst"]["other"] == 0.5
    assert found["worst − best"]["recall"] == 0  # never as precise


def test_columns_do_not_know_the_held_out(ratings):
    """Base columns follow from what may be learned from: other held-out hits change none."""
    _, test = for_ranker(ratings, SMALL.split, 0, 12)
    learned = factors(ratings, test.train, FactorConfig(num_factors=4))
    fields = {"field": FieldConfig(num_waves=4)}
    vectors = unit(learned.item)
    found = groups(test, learned, vectors, fields, knows_viewer=True)
    order = np.random.default_rng(0).permutation(test.hit.shape[1])
    other = groups(
        Split(**{**vars(test), "hit": test.hit[:, order]}), learned, vectors, fields, True
    )
    names, rows = matrix(found, ("base", "local", "kernel", "field"))
    assert len(names) == 7 + 2 + 4 + 7
    np.testing.assert_array_equal(rows, matrix(other, ("base", "local", "kernel", "field"))[1])
    cold = groups(test, learned, vectors, fields, knows_viewer=False)
    assert "predicted" in found["base"]
    assert "predicted" not in cold["base"]
