"""Pairs that people showed: made within groups, learned from, and told with a fair tie."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from configs import load
from pipelines.data.job import DataConfig
from train.preference.real import kuairand
from train.preference.real.movielens import of_ratings
from train.preference.real.shown import (
    ShownPairs,
    accuracies,
    advantages,
    learn_from,
    pairs_within,
    strongest,
)
from train.preference.stakeholders.movielens import Ratings


def test_pairs_are_of_one_group_and_differ():
    """Only rows of one group with different values make a pair, and the higher is preferred."""
    group, value = np.array([1, 2, 1, 1, 2]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    made = pairs_within(group, value, np.array([7, 8, 7, 7, 8]), most=10)
    found = {(a, b, p) for a, b, p in zip(made.first, made.second, made.prefers_first, strict=True)}
    assert found == {(0, 2, False), (2, 3, True)}
    assert made.person.tolist() == [7, 7]


def test_a_group_gives_at_most_so_many():
    """Of a long session only some pairs are drawn, none twice."""
    made = pairs_within(np.zeros(30, int), np.arange(30.0), np.zeros(30, int), most=12)
    assert len(set(zip(made.first, made.second, strict=True))) == 12


def test_what_people_prefer_is_learned():
    """Pairs decided by one feature give it the weight, though its unit is small."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)) * np.array([0.001, 1.0, 1.0])
    made = pairs_within(np.arange(400) // 4, features[:, 0], np.arange(400) // 4, most=6)
    weights = learn_from(features, made)
    told = accuracies(made, {"learned": features @ weights}, majority=True)
    assert told["learned"]["accuracy"] > 0.95


def test_ties_count_half_and_the_majority_is_the_training_one():
    """A score that says nothing is right half of the time."""
    pairs = ShownPairs(np.array([0, 1]), np.array([2, 2]), np.array([True, True]), np.array([1, 2]))
    told = accuracies(pairs, {"none": np.zeros(3)}, majority=False)
    assert told["none"]["accuracy"] == 0.5
    assert told["majority"]["accuracy"] == 0.0


def test_rivals_are_the_strongest_and_compared_on_the_same_pairs():
    """The rival that tells most is taken; against itself a score has no advantage at all."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=300)
    pairs = pairs_within(np.arange(300) // 3, value, np.arange(300) // 3, most=3)
    rivals = {"noise": rng.normal(size=300), "near": value + rng.normal(size=300)}
    assert strongest(pairs, rivals) == "near"
    told = advantages(pairs, value, rivals | {"same": value}, majority=True)
    assert told["same"] == {"accuracy": 0.0, "low": 0.0, "high": 0.0}
    assert told["noise"]["low"] > told["near"]["low"] > 0
    assert told["majority"]["accuracy"] == pytest.approx(0.5, abs=0.1)


def test_held_out_viewers_of_like_taste_are_told():
    """Where all rate by genre, weights of some viewers tell the pairs of others."""
    rng = np.random.default_rng(0)
    genres = rng.random((30, 19)) < 0.2
    user, film = np.divmod(np.arange(60 * 30), 30)
    stars = np.clip(
        3 + 2 * genres[film, 1] - 2 * genres[film, 8] + rng.normal(0, 0.3, len(film)), 1, 5
    )
    found = of_ratings(Ratings(user + 1, film + 1, np.round(stars), np.arange(1, 31), genres))
    assert found["test_people"] == 12
    told = found["accuracy"]
    assert told["bradley_terry_genres"]["accuracy"] > 0.9
    assert told["majority"]["accuracy"] == pytest.approx(0.5, abs=0.1)


def test_what_is_clicked_on_earlier_days_tells_later_sessions():
    """A topic that is clicked far more is found, and tells pairs of later days."""
    rng = np.random.default_rng(0)
    num = 4_000
    days = np.array(["2022-04-26", "2022-05-04", "2022-05-08"])[np.arange(num) * 3 // num]
    topic = rng.integers(1, 4, num)
    log = pl.DataFrame(
        {
            "user_id": rng.integers(1, 20, num),
            "post_id": topic * 100 + rng.integers(0, 30, num),
            "author_id": topic,
            "topic": topic,
            "duration_s": rng.uniform(5, 60, num).astype(np.float32),
            "shown_at_ms": np.arange(num, dtype=np.int64) * 60_000,
            "log_date": days,
            "click": rng.random(num) < np.where(topic == 1, 0.9, 0.2),
        }
    )
    found = kuairand.of_log(log)
    told = found["accuracy"]
    assert found["test_pairs"] > 100
    assert told["bradley_terry"]["low"] > told["majority"]["high"]
    assert told["bradley_terry"]["accuracy"] > 0.75  # two of the topics are alike
    # Of thirty videos a topic each, clicks say what topics do; how often each was shown does not.
    assert found["strongest_popularity"] != "times_shown"
    assert told["times_shown"]["high"] < told["video_rate"]["low"]


def test_counts_know_nothing_of_the_days_that_are_asked():
    """Clicks of the test days change no score: only whose pairs are asked."""
    rng = np.random.default_rng(1)
    num = 900
    log = pl.DataFrame(
        {
            "user_id": rng.integers(1, 5, num),
            "post_id": rng.integers(1, 20, num),
            "author_id": rng.integers(1, 4, num),
            "topic": rng.integers(1, 4, num),
            "duration_s": rng.uniform(5, 60, num).astype(np.float32),
            "shown_at_ms": np.arange(num, dtype=np.int64) * 60_000,
            "log_date": np.array(["2022-04-26", "2022-05-04", "2022-05-08"])[np.arange(num) // 300],
            "click": rng.random(num) < 0.5,
        }
    )
    found = kuairand.of_log(log)
    turned = log.with_columns(
        click=pl.when(pl.col("log_date") == "2022-05-08").then(~pl.col("click")).otherwise("click")
    )
    other = kuairand.of_log(turned)
    for name, told in found["accuracy"].items():
        assert other["accuracy"][name]["accuracy"] == pytest.approx(1 - told["accuracy"]), name


def test_days_are_those_of_the_demos_data():
    """The pairs that are asked are of the days that the demo's ranker is tested on."""
    split = load("configs/data/kuairand.yaml", DataConfig).split
    assert kuairand.DAYS["learn_until"] == split.validate_from.isoformat()
    assert kuairand.DAYS["test_from"] == split.test_from.isoformat()
