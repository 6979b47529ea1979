"""Metrics against values worked out by hand, and against slow and obvious second routes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.intervals import bootstrap_interval
from train.metrics import (
    auc,
    calibration,
    calibration_error,
    calibration_error_by_chance,
    grouped_auc,
    hit_rate_at_k,
    log_loss,
    mean_absolute_error,
    ndcg_at_k,
    normalised_entropy,
    recall_at_k,
)

NAN = float("nan")
# Few distinct scores, so that ties are common.
ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(-4, 4), st.integers(0, 3), st.integers(0, 4)),
    min_size=1,
    max_size=30,
).map(lambda rows: [np.array(column) for column in zip(*rows, strict=True)])


def brute_force_auc(label, score, weight):
    """All pairs of a positive and a negative row, one by one."""
    won = pairs = 0.0
    for i in np.flatnonzero(label):
        for j in np.flatnonzero(~label):
            pairs += weight[i] * weight[j]
            won += weight[i] * weight[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
    return won / pairs if pairs else NAN


def test_auc_by_hand():
    """Two of the three pairs are won and one is a tie: (2 + 1/2) / 3."""
    assert auc([True, True, True, False], [3, 2, 1, 1]) == pytest.approx(2.5 / 3)
    assert auc([False, True], [0.1, 0.2]) == 1
    assert auc([False, True], [7, 7]) == 0.5


@given(ROWS)
def test_auc_counts_pairs(rows):
    """AUC equals counting all pairs, ties half, weights multiplied."""
    label, score, _, weight = rows
    expected = brute_force_auc(label, score, weight)
    assert auc(label, score, weight) == pytest.approx(expected, nan_ok=True)


@given(ROWS)
def test_auc_sees_only_the_order(rows):
    """A strictly increasing transform of the scores changes nothing; negation mirrors."""
    label, score, _, _ = rows
    before = auc(label, score)
    assert auc(label, np.exp(score / 3.0) - 5) == pytest.approx(before, nan_ok=True)
    assert auc(label, -score) == pytest.approx(1 - before, nan_ok=True)


@given(ROWS)
def test_grouped_auc_is_the_mean_over_groups(rows):
    """Each group's own AUC, weighted by its rows, groups of one class left out."""
    label, score, group, weight = rows
    parts = []
    for g in np.unique(group):
        of = group == g
        value = brute_force_auc(label[of], score[of], weight[of])
        if not np.isnan(value):
            parts.append((value, weight[of].sum()))
    expected = np.average([v for v, _ in parts], weights=[w for _, w in parts]) if parts else NAN
    assert grouped_auc(group, label, score, weight) == pytest.approx(expected, nan_ok=True)


@given(ROWS, st.integers(-9, 9))
def test_grouped_auc_ignores_what_a_group_has_in_common(rows, shift):
    """Adding a constant to all scores of a viewer does not change grouped AUC."""
    label, score, group, _ = rows
    moved = score + shift * group
    expected = grouped_auc(group, label, score)
    assert grouped_auc(group, label, moved) == pytest.approx(expected, nan_ok=True)


@given(ROWS)
def test_weights_are_repetitions(rows):
    """A row of weight 2 counts like two equal rows, one of weight 0 like none."""
    label, score, group, weight = rows
    p = (score + 5) / 10
    again = [np.repeat(column, weight) for column in (group, label, p)]
    for plain, weighted in [
        (auc(*again[1:]), auc(label, p, weight)),
        (grouped_auc(*again), grouped_auc(group, label, p, weight)),
        (log_loss(*again[1:]), log_loss(label, p, weight)),
        (normalised_entropy(*again[1:]), normalised_entropy(label, p, weight)),
        (calibration(*again[1:]), calibration(label, p, weight)),
        (mean_absolute_error(*again[1:]), mean_absolute_error(label, p, weight)),
    ]:
        assert weighted == pytest.approx(plain, nan_ok=True)


def test_nan_scores_are_refused():
    """A model that answers NaN is an error, not a lucky order."""
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        auc([True, False], [NAN, 0.5])


def test_one_class_has_no_auc():
    """Without both classes there is nothing to order."""
    assert np.isnan(auc([True, True], [0.1, 0.2]))
    assert np.isnan(auc([], []))
    assert np.isnan(grouped_auc([1, 2], [True, False], [0.1, 0.2]))


def test_normalised_entropy_by_hand():
    """Predicting the base rate gives 1; p = (0.8, 0.2) for (1, 0) gives ln(0.8)/ln(0.5)."""
    label = np.array([True, False, False, False])
    assert normalised_entropy(label, np.full(4, 0.25)) == pytest.approx(1)
    assert normalised_entropy([True, False], [0.8, 0.2]) == pytest.approx(np.log(0.8) / np.log(0.5))
    assert np.isnan(normalised_entropy([True, True], [0.8, 0.2]))


@given(st.integers(1, 9), st.floats(0.01, 0.99))
def test_no_constant_beats_the_base_rate(num_positive, p):
    """Any constant prediction has a normalised entropy of at least 1."""
    label = np.arange(10) < num_positive
    assert normalised_entropy(label, np.full(10, p)) >= 1 - 1e-12


def test_certain_and_wrong_is_finite():
    """A prediction of 0 for what happened costs much, but not infinity."""
    assert np.isfinite(log_loss([True], [0.0]))


def test_calibration_by_hand():
    """Promised 1.2 for one that came: 1.2. Nothing came: NaN."""
    assert calibration([True, False], [0.7, 0.5]) == pytest.approx(1.2)
    assert np.isnan(calibration([False], [0.7]))


def test_calibration_error_by_hand():
    """Two bins off by 0.1 and by 0.3 on half the rows each: 0.2."""
    label = np.array([False] * 5 + [True] * 5)
    p = np.array([0.1] * 5 + [0.7] * 5)
    assert calibration_error(label, p, num_bins=2) == pytest.approx(0.2)
    assert calibration_error(label, label.astype(float), num_bins=3) == 0
    # In one bin errors of opposite sign cancel out.
    assert calibration_error([True, False], [0.6, 0.4], num_bins=1) == pytest.approx(0)


def test_retrieval_metrics_by_hand():
    """One query with hits at ranks 1 and 3 of 4 relevant, one without, one with none to find."""
    hit = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    relevant = np.array([4, 1, 0])
    np.testing.assert_allclose(recall_at_k(hit, relevant, 1), [0.25, 0, NAN])
    np.testing.assert_allclose(recall_at_k(hit, relevant, 3), [0.5, 0, NAN])
    np.testing.assert_allclose(hit_rate_at_k(hit, relevant, 3), [1, 0, NAN])
    best = 1 + 1 / np.log2(3) + 0.5
    np.testing.assert_allclose(ndcg_at_k(hit, relevant, 3), [1.5 / best, 0, NAN])


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 5), st.integers(1, 12))
def test_retrieval_metrics_keep_their_bounds(hits, more, k):
    """All lie in [0, 1], recall grows with k, and hits first is the best order."""
    k = min(k, len(hits))
    hit, relevant = np.array([hits]), np.array([sum(hits) + more])
    for metric in (recall_at_k, hit_rate_at_k, ndcg_at_k):
        value, best = metric(hit, relevant, k), metric(-np.sort(-hit.astype(int)) > 0, relevant, k)
        assert np.isnan(value[0]) == (relevant[0] == 0)
        assert np.isnan(value[0]) or 0 <= value[0] <= best[0] + 1e-12 <= 1 + 2e-12
    assert not np.any(recall_at_k(hit, relevant, k) > recall_at_k(hit, relevant, len(hits)))


def test_interval_covers_the_mean_and_knows_groups():
    """The interval holds the mean, repeats with its seed, and widens for rows alike."""
    value = np.random.default_rng(0).normal(size=400)
    alone, together = np.arange(400), np.arange(400) // 20
    value += np.random.default_rng(1).normal(size=20)[together]

    def mean(weight):
        return float(weight @ value / weight.sum())

    low, high = bootstrap_interval(alone, mean)
    assert low < value.mean() < high
    assert bootstrap_interval(alone, mean) == (low, high)
    wide_low, wide_high = bootstrap_interval(together, mean)
    assert wide_high - wide_low > 1.5 * (high - low)


def test_interval_of_nothing_is_nan():
    """A statistic that never exists has no interval."""
    assert np.isnan(bootstrap_interval([1, 2], lambda weight: NAN)).all()


def test_calibration_error_of_the_truth_is_what_chance_leaves():
    """Outcomes drawn with the very probabilities have the expected error, in few bins and many."""
    rng = np.random.default_rng(0)
    p = rng.beta(2, 3, 4000)
    for num_bins in (5, 40):
        drawn = [calibration_error(rng.random(len(p)) < p, p, num_bins) for _ in range(100)]
        assert calibration_error_by_chance(p, num_bins) == pytest.approx(np.mean(drawn), rel=0.1)
    assert np.isnan(calibration_error_by_chance([]))
