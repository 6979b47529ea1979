"""Comparisons must be on the same rows, with the same knowledge."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from pipelines.schema import ACTION_NAMES, ACTIONS, DWELL_TIME, SPLITS
from train.baselines import RANKING
from train.compare import Queries, compare_dwell, compare_ranking, compare_retrieval
from train.metrics import auc
from train.rows import Past, flatten, read_examples

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
    found = compare_ranking(log, late, truth, {"favorite": "like"})
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
    found = compare_ranking(replace(log, observed=only), late, predicted, {})
    for metric in ("auc", "grouped_auc", "normalised_entropy", "calibration"):
        row = found[metric]["click"]
        assert row["model"] == row["post_rate"]


def test_unobserved_actions_are_left_out(log, late, truth):
    """An action that this log cannot show has no numbers at all."""
    only = np.full_like(log.observed, 1 << ACTION_NAMES.index("reply"))
    assert list(compare_ranking(replace(log, observed=only), late, truth, {})["auc"]) == ["reply"]


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


@pytest.fixture(scope="module")
def queries(prepared):
    """What test viewers clicked first in the test split."""
    past = Past.of(read_examples(prepared, *SPLITS))
    return Queries.of(read_examples(prepared, "test"), past, np.arange(1, 801), CLICK)


def test_queries_ask_for_new_clicked_posts(prepared, queries):
    """Each relevant post was clicked in the visit and not shown to the viewer before it."""
    whole = flatten(read_examples(prepared, *SPLITS))
    test = read_examples(prepared, "test")
    first_shown = {}
    for user, post, at_ms in zip(whole.user_id, whole.post_id, whole.shown_at_ms, strict=True):
        key = (user, post)
        first_shown[key] = min(at_ms, first_shown.get(key, at_ms))
    expected = set()
    for i, example in enumerate(test.to_pylist()):
        for post, did in zip(example["post_id"], example["did"], strict=True):
            if did >> CLICK & 1 and first_shown[example["user_id"], post] >= example["at_ms"]:
                expected.add((i, post))
    query, row = queries.relevant
    assert set(zip(queries.example[query].tolist(), (row + 1).tolist(), strict=True)) == expected


def test_queries_know_all_that_was_seen_before(prepared, queries):
    """Everything in an example's history is among the seen posts of its query."""
    test = read_examples(prepared, "test").to_pylist()
    for q in range(0, len(queries.example), 7):
        seen = set((queries.seen[1][queries.seen[0] == q] + 1).tolist())
        assert set(test[queries.example[q]]["history_post_id"]) <= seen


def small_queries() -> Queries:
    """Two queries over posts 0..4: the first saw 1 and wants 2, the second wants 0 and 9."""
    return Queries(
        example=np.array([0, 1]),
        user_id=np.array([1, 2]),
        liked=np.full((2, 1), -1),
        seen=(np.array([0]), np.array([1])),
        relevant=(np.array([0, 1, 1]), np.array([2, 0, -1])),
    )


def test_seen_posts_leave_the_page():
    """Seen posts and gaps are dropped, later ones move up, short pages end in -1."""
    pages = np.array([[1, 3, 2], [1, -1, 0]])
    np.testing.assert_array_equal(small_queries().unseen(pages, 2), [[3, 2], [1, 0]])
    np.testing.assert_array_equal(
        small_queries().unseen(pages, 4), [[3, 2, -1, -1], [1, 0, -1, -1]]
    )


def test_recall_counts_what_cannot_be_found():
    """A wanted post outside the corpus is a miss, not an excuse; -1 is never a hit."""
    pages = {"model": np.array([[3, 2], [0, -1]]), "popular": np.array([[3, 4], [0, -1]])}
    found = compare_retrieval(small_queries(), pages)
    assert found["queries"]["num_outside_corpus"] == 1
    assert found["recall@10"]["model"] == pytest.approx((1 + 0.5) / 2)
    assert found["recall@10"]["popular"] == pytest.approx((0 + 0.5) / 2)
    assert found["recall@10"]["best_baseline"] == "popular"


def test_nothing_later_than_the_visit_is_known(prepared):
    """Leaving out everything shown after a visit changes no query of it."""
    test = read_examples(prepared, "test")
    cut = int(np.median(test["at_ms"].to_numpy()))
    early = test.filter(pc.less(test["at_ms"], cut))
    whole, corpus = Past.of(read_examples(prepared, *SPLITS)), np.arange(1, 801)
    now, then = (Queries.of(early, past, corpus, CLICK) for past in (whole, whole.until(cut)))
    for name in ("example", "liked", "seen", "relevant"):
        np.testing.assert_array_equal(getattr(now, name), getattr(then, name))
