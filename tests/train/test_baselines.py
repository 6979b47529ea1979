"""Baselines of ranking must be honest before anything may be compared with them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import ACTION_NAMES, SPLITS
from train.baselines import PRIOR, PROBABILITIES, RANKING, earlier
from train.metrics import auc
from train.rows import Rows, flatten, read_examples

CLICK = ACTION_NAMES.index("click")


def rows_of(time, user, post, did, observed) -> Rows:
    """Rows in which only these columns matter; did and observed are about clicks."""
    whole = [np.asarray(column, np.int64) for column in (time, user, post)]
    blank = np.zeros(len(time), np.int64)
    observed = np.asarray(observed, np.int64) << CLICK
    return Rows(
        example=blank,
        user_id=whole[1],
        post_id=whole[2],
        author_id=whole[2] % 3,
        surface=blank.astype(np.int16),
        shown_at_ms=whole[0],
        did=(np.asarray(did, np.int64) << CLICK) & observed,
        observed=observed,
        dwell_s=blank.astype(np.float32),
    )


# Few values of each, so that equal times, viewers and posts are common.
LOGS = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=25,
).map(lambda rows: rows_of(*zip(*rows, strict=True)))


@pytest.mark.parametrize("name", RANKING)
@given(rows=LOGS, now=st.integers(0, 6))
def test_no_baseline_sees_the_present_or_the_future(name, rows, now):
    """Leaving out or flipping rows from `now` on changes no score up to and including `now`."""
    scores = RANKING[name](rows, CLICK)
    known = rows.shown_at_ms <= now
    later = rows.shown_at_ms >= now
    flipped = replace(rows, did=np.where(later, ~rows.did & rows.observed, rows.did))
    np.testing.assert_allclose(RANKING[name](flipped, CLICK)[known], scores[known], atol=1e-12)
    np.testing.assert_allclose(RANKING[name](rows.take(known), CLICK), scores[known], atol=1e-12)


@pytest.mark.parametrize("name", RANKING)
@given(rows=LOGS, seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter(name, rows, seed):
    """A row's score is the same wherever it stands in the table."""
    shuffle = np.random.default_rng(seed).permutation(len(rows))
    expected = RANKING[name](rows, CLICK)[shuffle]
    np.testing.assert_allclose(RANKING[name](rows.take(shuffle), CLICK), expected, atol=1e-12)


@given(rows=LOGS)
def test_rates_by_counting(rows):
    """The post rate equals looping over all earlier showings of the post that were observed."""
    scores = RANKING["post_rate"](rows, CLICK)
    label, seen = rows.label(CLICK), rows.seen(CLICK)
    for i in range(len(rows)):
        before = rows.shown_at_ms < rows.shown_at_ms[i]
        same = before & (rows.post_id == rows.post_id[i])
        overall = (label[before].sum() + 1) / (seen[before].sum() + 2)
        rate = (label[same].sum() + PRIOR * overall) / (seen[same].sum() + PRIOR)
        assert scores[i] == pytest.approx(rate)


@pytest.mark.parametrize("name", sorted(PROBABILITIES))
@given(rows=LOGS)
def test_rates_are_probabilities(name, rows):
    """All but popularity lie strictly between 0 and 1, with or without a past."""
    scores = RANKING[name](rows, CLICK)
    assert np.all((scores > 0) & (scores < 1))


def test_earlier_by_hand():
    """Sums of strictly earlier amounts of the same key; equal times see neither each other."""
    key, at_ms = np.array([1, 1, 2, 1, 1]), np.array([5, 5, 5, 9, 2])
    amount = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    np.testing.assert_array_equal(earlier(key, at_ms, amount)[0], [16, 16, 0, 19, 0])


def test_flattened_examples_are_the_log(world, prepared):
    """The candidates of all splits, sorted by time, are the events again."""
    rows = flatten(read_examples(prepared, *SPLITS))
    rows = rows.take(np.lexsort((rows.post_id, rows.user_id, rows.shown_at_ms)))
    log = {name: world.events[name].to_numpy() for name in ("user_id", "post_id", "shown_at_ms")}
    order = np.lexsort((log["post_id"], log["user_id"], log["shown_at_ms"]))
    for name, expected in log.items():
        np.testing.assert_array_equal(getattr(rows, name), expected[order])
    np.testing.assert_array_equal(rows.label(CLICK), world.events["click"].to_numpy()[order])


def test_missing_split_is_named(tmp_path):
    """A data folder without the split is an error that names it."""
    with pytest.raises(FileNotFoundError, match="split=test"):
        read_examples(tmp_path, "test")


def test_rates_find_what_is_planted(prepared):
    """Generous viewers and good authors exist, so their rates order the rows."""
    rows = flatten(read_examples(prepared, "train"))
    late = rows.shown_at_ms > np.median(rows.shown_at_ms)
    favorite = ACTION_NAMES.index("favorite")
    label = rows.label(favorite)[late]
    found = {name: auc(label, score(rows, favorite)[late]) for name, score in RANKING.items()}
    assert found["user_rate"] > 0.55
    assert found["author_rate"] > 0.52
    assert found["user_and_post"] > 0.55
