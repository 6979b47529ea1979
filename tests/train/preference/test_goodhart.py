"""Who gains: cosines, changes, and the published figures of ML-100K."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.train.preference.planted import planted
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.decoupling import decouple
from train.preference.directions import predictors, with_random_stakeholders
from train.preference.goodhart import (
    COSINES,
    UNIT,
    changes,
    cosines,
    learn_all,
    levels,
    matches,
    ordered_pairs,
)
from train.preference.published import CHANGES, COVARIANCE, DECOUPLED, LEVELS, TRAINED
from train.preference.space import cosine
from train.preference.stakeholders import movielens
from train.preference.training import FitConfig

SEEDS = (42, 142)


@pytest.fixture(scope="module")
def learned():
    """The planted pool with two seeds."""
    space = planted()
    return space, learn_all(space, SEEDS)


def test_those_who_agree_gain_and_those_who_do_not_lose(learned):
    """More of the user's pairs help the platform and harm diversity, softly and by the best."""
    space, weights = learned
    for name, change in changes(space, weights).items():
        if name in ("T=1", "T=10", "top 10"):
            assert change[0, 1] > 0 > change[0, 2], name


def test_cosines_of_even_features_are_alike(learned):
    """With uncorrelated features of one spread the covariance cosine is nearly the raw one."""
    space, weights = learned
    found = cosines(space, weights)
    assert set(found) == set(COSINES)
    np.testing.assert_allclose(found["covariance_true"], found["raw"], atol=0.15)
    np.testing.assert_allclose(np.diag(found["raw"]), 1)


def test_matches_count_strong_pairs_alone(learned):
    """Pairs whose trained cosine is near 0 do not count."""
    space, weights = learned
    rows = list(ordered_pairs(space, cosines(space, weights), changes(space, weights)))
    assert len(rows) == 6
    assert matches(rows, "trained", "T=1") == (6, 6)
    weak = [{**row, "cosine": {**row["cosine"], "trained": 0.1}} for row in rows]
    assert matches(weak, "trained", "T=1") == (0, 0)


def test_a_soft_change_follows_the_covariance(learned):
    """Hot, the change of a hidden utility is the covariance with the change of score over T."""
    space, weights = learned
    hot = 1_000.0
    ours = changes(space, weights, False, (hot,))[f"T={hot:g}"]
    step = (weights.many - weights.few).mean(axis=0) @ space.features.T  # [K, C]
    theory = np.cov(np.concatenate([step, space.utility]), ddof=0)[:3, 3:] / hot
    np.testing.assert_allclose(ours, theory, rtol=0.02)


def test_random_partners_have_all_cosines():
    """Hidden partners are turned from their targets by angles of all sizes."""
    space = with_random_stakeholders(planted(), 300, seed=0)
    raw = cosine(space.weights[:300], space.weights[300:])
    assert raw.min() < -0.9
    assert raw.max() > 0.9
    assert abs(raw.mean()) < 0.1


def test_predictors_tell_more_than_the_majority():
    """On random pairs the covariance cosine is right far more often than the commoner sign."""
    found = predictors(planted(), num_pairs=40, seeds=SEEDS)["selections"]["T=10"]
    assert found["covariance"]["low"] > found["majority"]["share"]
    bins = found["bins"]["covariance"]
    assert sum(row["num"] for row in bins.values()) == 80
    assert found["covariance"]["num_clusters"] == 40


def test_steps_make_the_change_of_raw_scores():
    """Steps alone make more of the change than pairs alone, as long as scores may sharpen."""
    found = decouple(planted(), "user", "platform", (25, 1_000), (20, 600), SEEDS)
    assert found["shares"]["value"]["steps_alone"] > found["shares"]["value"]["pairs_alone"]
    assert len(found["cells"]) == 4


def test_decoupling_learns_as_it_is_told():
    """With a tiny learning rate nothing moves, however many steps: the norms stay alike."""
    fit = FitConfig(lr=1e-9)
    cells = decouple(planted(), "user", "platform", (25, 100), (5, 50), SEEDS, fit)["cells"]
    assert cells[0]["norm"] == pytest.approx(cells[-1]["norm"])


@needs_shared
def test_the_published_figures_of_movielens_come_out():
    """ML-100K: cosines and the sweep's changes to 0.003, all 66 by top ten and T to 0.0001."""
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    weights = learn_all(space)
    found = ordered_pairs(space, cosines(space, weights), changes(space, weights))
    rows = {f"{row['target']} > {row['hidden']}": row for row in found}
    for pair, trained in TRAINED["ml_100k"].items():
        assert rows[pair]["cosine"]["trained"] == pytest.approx(trained, abs=0.003)
        for selection, change in CHANGES["ml_100k"][pair].items():
            assert rows[pair]["change"][selection] == pytest.approx(change, abs=1e-4), selection
        _, few, many = LEVELS[pair]
        assert rows[pair]["change"]["sweep"] == pytest.approx(many - few, abs=0.003)
        assert rows[pair]["cosine"]["covariance"] == pytest.approx(COVARIANCE[pair], abs=0.003)
        assert np.sign(rows[pair]["change"][UNIT]) == np.sign(trained)


def test_levels_are_those_of_the_changes(learned):
    """Levels differ by the sweep's change, and bystanders are hidden but never targets."""
    space, weights = learned
    with_one = replace(space, bystanders={"other": np.array([0.0, 1.0, 0.0, 0.0])})
    rows = {(row["target"], row["hidden"]): row for row in levels(with_one, weights)}
    assert len(rows) == 3 * 3
    change = changes(space, weights)["sweep"]
    for t, target in enumerate(space.stakeholders):
        for h, hidden in enumerate(space.stakeholders):
            if t != h:
                row = rows[target, hidden]
                assert row["many"] - row["few"] == pytest.approx(change[t, h])
    assert {target for target, _ in rows} == set(space.stakeholders)
    assert rows["user", "other"]["raw"] == pytest.approx(
        cosine(space.weights[0], with_one.bystanders["other"])
    )


@needs_shared
def test_the_levels_of_bystanders_come_out():
    """ML-100K: the sweep's worth to all hidden ones, five bystanders among them, to 0.003."""
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    rows = {f"{r['target']} > {r['hidden']}": r for r in levels(space, learn_all(space))}
    assert rows.keys() == LEVELS.keys()
    for pair, figures in LEVELS.items():
        ours = [rows[pair][key] for key in ("raw", "few", "many")]
        assert ours == pytest.approx(list(figures), abs=0.003)


@needs_shared
def test_the_decoupling_comes_out():
    """ML-100K: fifty steps on 2,000 pairs change nothing; 1,250 on 25 make most of it."""
    space = movielens.space("ml_100k", movielens.read_100k(SHARED)[0])
    cells = decouple(space, "user", "platform", (25, 2_000), (50, 1_250))["cells"]
    for cell in cells:
        assert cell["value"] == pytest.approx(DECOUPLED[cell["pairs"], cell["steps"]], abs=0.01)
