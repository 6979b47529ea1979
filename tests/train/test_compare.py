"""Comparisons must be on the same rows, with the same knowledge."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.schema import ACTION_NAMES, ACTIONS, DWELL_TIME, SPLITS
from tests.train.test_queries import small_queries
from train.baselines import RANKING
from train.compare import compare_dwell, compare_ranking, compare_retrieval
from train.metrics import auc
from train.rows import flatten, read_examples

CLICK = ACTION_NAMES.index("click")


@pytest.fixture(scope="module")
def log(prepared):
    """Every row of the prepared world."""
    return flatten(read_examples(prepared, *SPLITS))


@pytest.fixture(scope="module")
def late(log):
    """The test rows: the last fifth of the log."""
    return log.shown_at_ms > np.quantile(log.shown_at_ms, 0.8)


@pytest.fixture(scope="module")
def truth(world, log, late):
    """What an all-knowing ranker predicts for the test rows."""
    return world.oracle(log.user_id[late], log.post_id[late]).astype(np.float32)


def test_an_all_knowing_model_beats_every_baseline(log, late, truth):
    """The planted truth is better than all counts, and the interval of its lead is above 0."""
    found = compare_ranking(log, late, [truth], {"favorite": "like"})
    row = found["auc"]["like"]
    assert row["model"] == auc(log.label(0)[late], truth[:, 0])
    assert row["best_baseline"] in RANKING
    assert row["difference"] == row["model"] - row[row["best_baseline"]]
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert row["interval"][0] > 0
    assert found["rows"]["like"] == {
        "action": "favorite",
        "num_rows": late.sum(),
        "num_positives": log.label(0)[late].sum(),
        "rate": log.label(0)[late].mean(),
    }


def test_a_model_that_is_a_baseline_is_no_better(log, late):
    """Predicting the post rate gives the post rate's numbers."""
    predicted = np.zeros((late.sum(), len(ACTIONS)), np.float64)
    predicted[:, CLICK] = RANKING["post_rate"](log, CLICK)[late]
    only = np.full_like(log.observed, 1 << CLICK)
    found = compare_ranking(replace(log, observed=only), late, [predicted], {})
    for metric in ("auc", "grouped_auc", "normalised_entropy", "calibration"):
        row = found[metric]["click"]
        assert row["model"] == row["post_rate"]


def test_unobserved_actions_are_left_out(log, late, truth):
    """An action that this log cannot show has no numbers at all."""
    only = np.full_like(log.observed, 1 << ACTION_NAMES.index("reply"))
    assert list(compare_ranking(replace(log, observed=only), late, [truth], {})["auc"]) == ["reply"]


def test_dwell_is_held_against_the_median(log, late, truth):
    """Knowing the usual stay beats the constant; medians, not means, win absolute errors."""
    usual = 0.6 * truth[:, DWELL_TIME]
    found = compare_dwell(log.take(~late), log.take(late), usual, cap_s=30.0)
    assert found["capped"]["median"] > found["capped"]["model"] > 0
    assert found["uncapped"]["median"] > found["capped"]["median"]


def test_unmeasured_dwell_is_not_compared(log, late, truth):
    """A log without dwell times has no dwell error."""
    blind = replace(log, observed=np.zeros_like(log.observed))
    assert compare_dwell(blind, blind, log.dwell_s, cap_s=30.0) is None


def test_recall_counts_what_cannot_be_found():
    """A wanted post outside the corpus is a miss, not an excuse; -1 is never a hit."""
    popular = {"popular": np.array([[3, 4], [0, -1]])}
    found = compare_retrieval(small_queries(), [np.array([[3, 2], [0, -1]])], popular)
    assert found["queries"]["num_outside_corpus"] == 1
    assert found["recall@10"]["model"] == pytest.approx((1 + 0.5) / 2)
    assert found["recall@10"]["popular"] == pytest.approx((0 + 0.5) / 2)
    assert found["recall@10"]["best_baseline"] == "popular"


def test_runs_of_several_seeds_count_as_their_mean(log, late, truth):
    """The model's figures are means over its runs; the baselines are the same for all."""
    runs = [truth, np.flip(truth, axis=0)]
    log = replace(log, observed=np.full_like(log.observed, 1 << CLICK))
    alone = [compare_ranking(log, late, [run], {})["auc"]["click"] for run in runs]
    both = compare_ranking(log, late, runs, {})["auc"]["click"]
    values = [found["model"] for found in alone]

    assert both["model"] == pytest.approx(np.mean(values))
    assert both["model_spread"] == pytest.approx(np.std(values, ddof=1))
    assert both["post_rate"] == alone[0]["post_rate"]
    assert both["difference"] == both["model"] - both[both["best_baseline"]]
    assert both["interval"][0] < both["difference"] < both["interval"][1]
