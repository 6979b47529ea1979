"""How good predictions are: pure functions of arrays, each with its formula.

Labels are bool [n], scores and probabilities float [n], weights float [n] or None for ones (a
weight of 2 counts a row twice, of 0 leaves it out). What cannot be computed, say the AUC of
rows that are all positive, is NaN and never a guess.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TINY = 1e-7  # probabilities are kept this far from 0 and 1 in logarithms


def mean(value: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean; NaN when the weights sum to 0."""
    value = np.asarray(value, np.float64)
    weight = _weights(weight, len(value))
    total = float(weight.sum())
    return float(weight @ value) / total if total else float("nan")


def auc(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Chance that a positive row outscores a negative one, ties counting half.

    The Mann-Whitney form of the area under the ROC curve:
    sum over pairs of w+ w- ([s+ > s-] + [s+ = s-] / 2) / (sum w+ sum w-).

    Raises:
        ValueError: a score is NaN.
    """
    return auc_of_weights(label, score)(weight)


def grouped_auc(
    group: ArrayLike, label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """Mean AUC within each group, weighted by the group's rows.

    Only groups with both classes count: sum_g n_g AUC_g / sum_g n_g (Zhu et al., "Optimized
    Cost per Click in Taobao Display Advertising", KDD 2017). The group is mostly the viewer:
    then differences between viewers, which no ranking of one page can use, play no part.

    Raises:
        ValueError: a score is NaN.
    """
    return auc_of_weights(label, score, group)(weight)


def auc_of_weights(
    label: ArrayLike, score: ArrayLike, group: ArrayLike | None = None
) -> Callable[[ArrayLike | None], float]:
    """`auc`, or `grouped_auc` if there are groups, as a function of the row weights.

    Sorts once, so that an interval of many weightings costs little more than one value.

    Raises:
        ValueError: a score is NaN.
    """
    label, score = np.asarray(label, bool), np.asarray(score)
    group = np.zeros(len(score), np.int64) if group is None else np.asarray(group)
    if np.isnan(score).any():
        raise ValueError(f"{np.isnan(score).sum()} of {len(score)} scores are NaN")
    if not len(score):
        return lambda weight: float("nan")
    order = np.lexsort((score, group))
    group, score, label = group[order], score[order], label[order]
    new_group = np.append(True, group[1:] != group[:-1])
    tie = np.flatnonzero(np.append(True, score[1:] != score[:-1]) | new_group)
    first = np.flatnonzero(new_group[tie])  # of each group, among the ties
    size = np.diff(np.append(first, len(tie)))

    def value(weight: ArrayLike | None) -> float:
        rows = _weights(weight, len(order))[order]
        positive = np.add.reduceat(rows * label, tie)
        negative = np.add.reduceat(rows * ~label, tie)
        below = np.cumsum(negative) - negative
        below -= np.repeat(below[first], size)
        won = np.add.reduceat(positive * (below + negative / 2), first)
        num_positive = np.add.reduceat(positive, first)
        num_negative = np.add.reduceat(negative, first)
        pairs = num_positive * num_negative
        both = pairs > 0
        if not both.any():
            return float("nan")
        num_rows = (num_positive + num_negative)[both]
        return float(np.average(won[both] / pairs[both], weights=num_rows))

    return value


def log_loss(label: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)), in nats."""
    p, label = np.clip(np.asarray(p, np.float64), _TINY, 1 - _TINY), np.asarray(label, bool)
    loss = -np.where(label, np.log(p), np.log1p(-p))
    return mean(loss, weight)


def normalised_entropy(label: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over that of always predicting these rows' own rate; below 1 is better.

    (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.)
    Relative cross-entropy is 100 (1 - this). NaN when all labels are equal.
    """
    rate = mean(np.asarray(label, np.float64), weight)
    if not 0 < rate < 1:
        return float("nan")
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return log_loss(label, p, weight) / float(entropy)


def calibration(label: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Sum of predictions over sum of outcomes; 1 is right, above 1 promises too much."""
    label = np.asarray(label, np.float64)
    weight = _weights(weight, len(label))
    done = float(weight @ label)
    return float(weight @ np.asarray(p, np.float64)) / done if done else float("nan")


def calibration_error(label: ArrayLike, p: ArrayLike, num_bins: int = 20) -> float:
    """Expected calibration error over bins of equal numbers of rows, in probability.

    sum_b (n_b / n) |mean p - mean y|, rows sorted by p and cut into `num_bins` (Nguyen and
    O'Connor, "Posterior calibration and exploratory analysis", EMNLP 2015).
    """
    p, label = np.asarray(p, np.float64), np.asarray(label, np.float64)
    bins = _bins(p - label, p, num_bins)
    return float(sum(abs(part.sum()) for part in bins) / len(p)) if bins else float("nan")


def calibration_error_by_chance(p: ArrayLike, num_bins: int = 20) -> float:
    """What `calibration_error` is on average where `p` is the truth: no less can be hoped for.

    A bin's gap is then about normal around 0, and the mean of its size is the square root of
    2 / pi times its variance: sum_b sqrt(2 / pi sum_{i in b} p_i (1 - p_i)) / n.
    """
    p = np.asarray(p, np.float64)
    bins = _bins(p * (1 - p), p, num_bins)
    expected = sum(np.sqrt(2 / np.pi * part.sum()) for part in bins)
    return float(expected / len(p)) if bins else float("nan")


def mean_absolute_error(
    truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """Mean of |truth - predicted|, in their unit."""
    return mean(np.abs(np.asarray(truth, np.float64) - np.asarray(predicted)), weight)


def recall_at_k(hit: NDArray[np.bool_], num_relevant: NDArray[np.int64], k: int) -> Floats:
    """Share of each query's relevant posts among its first k results.

    Args:
        hit: whether the result at each rank is relevant, best first. [Q, at least k].
        num_relevant: relevant posts of each query, found or not. [Q].
        k: results looked at.

    Returns:
        float64 [Q]; NaN where nothing is relevant.
    """
    return _per_relevant(hit[:, :k].sum(1), num_relevant)


def hit_rate_at_k(hit: NDArray[np.bool_], num_relevant: NDArray[np.int64], k: int) -> Floats:
    """1 if any of the first k results is relevant, else 0. Arguments as `recall_at_k`."""
    return _per_relevant(hit[:, :k].max(1, initial=False), np.minimum(num_relevant, 1))


def ndcg_at_k(hit: NDArray[np.bool_], num_relevant: NDArray[np.int64], k: int) -> Floats:
    """Discounted gain of the first k results over the best possible one.

    DCG = sum over ranks r = 1..k of hit_r / log2(r + 1); the best has min(k, num_relevant)
    hits on top (Järvelin and Kekäläinen, TOIS 2002). Arguments as `recall_at_k`.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(num_relevant, k)]
    return _per_relevant(hit[:, :k] @ discount[: hit.shape[1]], best)


def _bins(values: Floats, p: Floats, num_bins: int) -> list[Floats]:
    """Values in bins of equal numbers of rows, in the order of p; none is empty."""
    ordered = values[np.argsort(p, kind="stable")]
    return [part for part in np.array_split(ordered, num_bins) if len(part)]


def _weights(weight: ArrayLike | None, num: int) -> Floats:
    return np.ones(num) if weight is None else np.asarray(weight, np.float64)


def _per_relevant(found: NDArray, relevant: NDArray) -> Floats:
    out = np.full(len(found), np.nan)
    return np.divide(found, relevant, out=out, where=relevant > 0)
