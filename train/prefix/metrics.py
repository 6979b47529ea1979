"""What a prefix of an embedding knows: pure functions of vectors and labels.

Nearness is the cosine. A curve is one measure at each prefix, shortest first; S and its kin are
made of the curves of a coarse and a fine level. Axes: N queries, M keys, E width of a vector,
J prefixes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_NEIGHBOURS = 5
_ROWS = 1_024  # of queries compared at once


def cosines(queries: Tensor, keys: Tensor | None = None) -> Tensor:
    """Nearness of each query to each key; with no keys, of each query to the other queries.

    Args:
        queries: float32 [N, E], any length.
        keys: float32 [M, E]; None = the queries, and what a query says of itself is -inf.

    Returns:
        float32 [N, M].
    """
    queries = torch.nn.functional.normalize(queries, dim=-1)
    if keys is not None:
        return queries @ torch.nn.functional.normalize(keys, dim=-1).T
    return (queries @ queries.T).fill_diagonal_(-torch.inf)


def neighbours(near: Tensor, k: int = NUM_NEIGHBOURS) -> Labels:
    """The k nearest keys of each query, nearest first. int64 [N, k] from `cosines` [N, M]."""
    return np.concatenate(
        [near[at : at + _ROWS].topk(k, dim=-1).indices.numpy() for at in range(0, len(near), _ROWS)]
    )


def votes(labels: Labels, num_labels: int) -> NDArray[np.int64]:
    """How many of the neighbours [N, k] have each label. [N, num_labels]."""
    counts = np.zeros((len(labels), num_labels), np.int64)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels), 1)
    return counts


def knn_hits(labels: Labels, truth: Labels) -> NDArray[np.bool_]:
    """Whether the neighbours' majority, a tie going to the lowest label, is right.

    Args:
        labels: of the neighbours [N, k].
        truth: of the queries [N].
    """
    num_labels = int(max(labels.max(), truth.max())) + 1
    return votes(labels, num_labels).argmax(axis=1) == truth


def r_precision(near: Tensor, truth: Labels, keys: Labels | None = None) -> Floats:
    """Of the R keys nearest to a query, R being how many share its label, how many do.

    Keys that are as near as the R-th count for the share of them that fits.

    Args:
        near: as from `cosines`, [N, M].
        truth: labels of the queries [N].
        keys: of the keys [M]; None = the queries, and no query counts itself.

    Returns:
        float64 [N]; NaN where no key has the label.
    """
    alone = keys is None
    keys = truth if keys is None else keys
    result = np.full(len(truth), np.nan)
    for label in np.unique(truth):
        rows = np.flatnonzero(truth == label)
        same = torch.from_numpy(keys == label)
        num = int(same.sum()) - alone
        if num < 1:
            continue
        for part in np.array_split(rows, -(-len(rows) // _ROWS)):
            inner = near[torch.from_numpy(part)]
            # The R-th largest; -inf of the query itself is the last of all.
            least = inner.kthvalue(inner.shape[1] - num + 1, dim=1, keepdim=True).values
            above, level = inner > least, inner == least
            fits = (num - above.sum(dim=1)) / level.sum(dim=1)
            hits = above[:, same].sum(dim=1) + level[:, same].sum(dim=1) * fits
            result[part] = hits.numpy() / num
    return result


def linear_probe(
    train: Tensor, train_labels: Labels, test: Tensor, ridge: float = 1e-4
) -> NDArray[np.int64]:
    """Labels that ridge regression onto one-hot labels, solved exactly, gives to `test`.

    Args:
        train: float32 [N, E].
        train_labels: int64 [N].
        test: float32 [M, E].
        ridge: penalty, as a share of the mean variance of a dimension.

    Returns:
        int64 [M].
    """
    x = train.double()
    mean = x.mean(dim=0)
    x = x - mean
    num_labels = int(train_labels.max()) + 1
    y = torch.nn.functional.one_hot(torch.from_numpy(train_labels), num_labels).double()
    gram = x.T @ x
    gram.diagonal().add_(ridge * float(gram.diagonal().mean()) + 1e-12)
    weight = torch.linalg.solve(gram, x.T @ (y - y.mean(dim=0)))
    return ((test.double() - mean) @ weight + y.mean(dim=0)).argmax(dim=1).numpy()


def first_hit(near: Tensor, truth: Labels, keys: Labels) -> NDArray[np.int64]:
    """Rank, from 0, of the nearest key with the query's label; M where there is none. [N]."""
    rank = np.empty(len(truth), np.int64)
    for at in range(0, len(truth), _ROWS):
        inner, labels = near[at : at + _ROWS], truth[at : at + _ROWS]
        same = torch.from_numpy(labels[:, None] == keys[None])
        best = inner.masked_fill(~same, -torch.inf).amax(dim=1, keepdim=True)
        ahead = (inner > best).sum(dim=1).numpy()
        rank[at : at + _ROWS] = np.where(same.any(dim=1).numpy(), ahead, inner.shape[1])
    return rank


def recall_at(rank: NDArray[np.int64], k: int) -> float:
    """Share of queries with a key of their label among the first k."""
    return float((rank < k).mean())


def mean_reciprocal_rank(rank: NDArray[np.int64], num_keys: int) -> float:
    """Mean of 1 / (1 + rank), 0 where no key has the label."""
    return float(np.where(rank < num_keys, 1 / (rank + 1), 0).mean())


def s_orig(coarse: ArrayLike, fine: ArrayLike) -> float:
    """(L0@1 - L0@J) + (L1@J - L1@1): what a short prefix gains in the coarse, loses in the fine."""
    coarse, fine = _curve(coarse), _curve(fine)
    return float((coarse[0] - coarse[-1]) + (fine[-1] - fine[0]))


def s_auc(coarse: ArrayLike, fine: ArrayLike) -> float:
    """Mean over j = 2..J of (L0@1 - L0@j) + (L1@j - L1@1)."""
    coarse, fine = _curve(coarse), _curve(fine)
    return float(((coarse[0] - coarse[1:]) + (fine[1:] - fine[0])).mean())


def s_gap(coarse: ArrayLike, fine: ArrayLike) -> float:
    """(L0@1 - L1@1) - (L0@J - L1@J), which is S by another name."""
    coarse, fine = _curve(coarse), _curve(fine)
    return float((coarse[0] - fine[0]) - (coarse[-1] - fine[-1]))


def s_mono(coarse: ArrayLike, fine: ArrayLike) -> float:
    """Share of the 2 (J - 1) steps at which the coarse does not rise or the fine does not fall."""
    coarse, fine = _curve(coarse), _curve(fine)
    right = [b <= a for a, b in itertools.pairwise(coarse)]
    right += [b >= a for a, b in itertools.pairwise(fine)]
    return float(np.mean(right))


def steerability(coarse: ArrayLike, fine: ArrayLike) -> dict[str, float]:
    """S and its kin, of curves [J]."""
    measures = {"s": s_orig, "s_auc": s_auc, "s_gap": s_gap, "s_mono": s_mono}
    return {name: measure(coarse, fine) for name, measure in measures.items()}


def zoom(curves: Sequence[ArrayLike]) -> dict[str, float]:
    """Three levels: S of each pair of levels between their own prefixes, and the zoom score.

    S_02 spans the whole embedding, S_01 prefixes 1 and 2, S_12 prefixes 2 and J. The score counts
    those of the last two pairs in which the coarse falls and the fine rises.

    Args:
        curves: of levels 0, 1 and 2, [J] each.
    """
    low, middle, high = map(_curve, curves)
    first, second = (low[[0, 1]], middle[[0, 1]]), (middle[[1, -1]], high[[1, -1]])
    zooms = [a[1] < a[0] and b[1] > b[0] for a, b in (first, second)]
    return {
        "s_02": s_orig(low, high),
        "s_01": s_orig(*first),
        "s_12": s_orig(*second),
        "zoom_score": float(sum(zooms)),
    }


def _curve(values: ArrayLike) -> Floats:
    curve = np.asarray(values, np.float64)
    if curve.ndim != 1 or len(curve) < 2:
        raise ValueError(f"a curve over prefixes needs two or more values, got {curve.shape}")
    return curve
