"""All that a study wants to know of one head, measured once on held-out texts.

Axes: N test texts, M training texts, J prefixes, L levels of labels, coarse first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.prefix.metrics import (
    cosines,
    first_hit,
    knn_hits,
    linear_probe,
    mean_reciprocal_rank,
    neighbours,
    r_precision,
    recall_at,
    votes,
)

Labels = NDArray[np.int64]
Curves = dict[str, list[float]]  # level -> value at each prefix, shortest first

POOLS = (500, 2_000)  # test texts that are each other's neighbours, beside all of them
CUTOFFS = (1, 2, 5, 10, 20, 50, 100)  # of the recall ramp
THRESHOLDS = (0.4, 0.6, 0.8, 1.0)  # vote shares; with five neighbours there are no others
ROUTED, RERANKED = 1_000, 50  # texts of the routing pool; of them looked at twice


def level_names(labels: Labels) -> list[str]:
    """L0 ... for labels [n, L]."""
    return [f"L{level}" for level in range(labels.shape[1])]


def measure(
    train: Sequence[Tensor],
    train_labels: Labels,
    test: Sequence[Tensor],
    labels: Labels,
    with_uses: bool = True,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Measure the prefixes of one head.

    Args:
        train: vectors of the training texts at each prefix, J of [M, width].
        train_labels: int64 [M, L].
        test: vectors of the test texts, J of [N, width], in random order.
        labels: int64 [N, L].
        with_uses: measure retrieval and routing, too.

    Returns:
        `knn` pool -> curves of accuracy by 5 nearest neighbours, the pools being the first 500
        and 2,000 test texts and all of them, each without the text itself, and `train`, all test
        texts by their training texts; `r_precision` and `probe` -> curves over all test texts;
        `retrieval` and `routing`. And by name what each test text adds to S (float32 [N]), `knn`
        with training texts as neighbours and `r_precision`.
    """
    names = level_names(labels)
    sizes = {str(n): n for n in POOLS if n < len(labels)} | {"all": len(labels)}
    knn: dict[str, Curves] = {pool: {name: [] for name in names} for pool in (*sizes, "train")}
    r_prec: Curves = {name: [] for name in names}
    probe: Curves = {name: [] for name in names}
    known: dict[str, list[list[NDArray]]] = {"knn": [], "r_precision": []}
    for keys, queries in zip(train, test, strict=True):
        near = cosines(queries)
        for pool, n in sizes.items():
            at = neighbours(near[:n, :n])
            for level, name in enumerate(names):
                hits = knn_hits(labels[at, level], labels[:n, level])
                knn[pool][name].append(float(hits.mean()))
        at = neighbours(cosines(queries, keys))
        known["knn"].append(
            [
                knn_hits(train_labels[at, level], labels[:, level]).astype(float)
                for level in range(len(names))
            ]
        )
        known["r_precision"].append([r_precision(near, labels[:, n]) for n in range(len(names))])
        for level, name in enumerate(names):
            knn["train"][name].append(float(known["knn"][-1][level].mean()))
            r_prec[name].append(float(np.nanmean(known["r_precision"][-1][level])))
            said = linear_probe(keys, train_labels[:, level], queries)
            probe[name].append(float((said == labels[:, level]).mean()))
    record: dict[str, Any] = {"knn": knn, "r_precision": r_prec, "probe": probe}
    if with_uses:
        record |= {"retrieval": _retrieval(test, labels), "routing": _routing(test, labels)}
    return record, {name: _item_s(values) for name, values in known.items()}


def _item_s(values: list[list[NDArray]]) -> NDArray[np.float32]:
    """What each text adds to S of the coarsest and the finest level; 0 where it has no fellows."""
    first, last = values[0], values[-1]
    s = (first[0] - last[0]) + (last[-1] - first[-1])
    return np.nan_to_num(s).astype(np.float32)


def _retrieval(test: Sequence[Tensor], labels: Labels) -> dict[str, Any]:
    """Half of the test texts look for texts of their label among the other half."""
    half = len(labels) // 2
    ramp: dict[str, Any] = {name: {} for name in level_names(labels)}
    for vectors in test:
        near = cosines(vectors[:half], vectors[half:])
        for level, name in enumerate(ramp):
            rank = first_hit(near, labels[:half, level], labels[half:, level])
            for k in CUTOFFS:
                ramp[name].setdefault(f"recall@{k}", []).append(recall_at(rank, k))
            mrr = mean_reciprocal_rank(rank, len(labels) - half)
            ramp[name].setdefault("mrr", []).append(mrr)
    return ramp


def _routing(test: Sequence[Tensor], labels: Labels) -> dict[str, Any]:
    """What the finest label costs if a text's prefix grows only while its neighbours disagree.

    Returns:
        `fixed`, `routed` and `reranked`: how -> accuracy and the mean numbers of a vector that
        are compared for each text of the pool.
    """
    test, labels = [vectors[:ROUTED] for vectors in test], labels[:ROUTED]
    sizes = np.array([vectors.shape[1] for vectors in test], float)
    near = [cosines(vectors) for vectors in test]
    at = [neighbours(values) for values in near]
    coarse, fine = labels[:, 0], labels[:, -1]
    hits = np.stack([knn_hits(fine[found], fine) for found in at])
    of_coarse, of_fine = (
        np.stack([_vote_share(values[found]) for found in at]) for values in (coarse, fine)
    )
    # Prefix 1 is trusted by its coarse votes, the last by its fine ones, those between by both.
    trust = np.concatenate([of_coarse[:1], (of_coarse + of_fine)[1:-1] / 2, of_fine[-1:]])
    few = near[0].topk(min(RERANKED, len(labels) - 1), dim=1).indices
    best = near[-1].gather(1, few).topk(at[0].shape[1], dim=1).indices
    again = knn_hits(fine[few.gather(1, best).numpy()], fine)
    cost = sizes[0] + sizes[-1] * few.shape[1] / len(labels)
    return {
        "fixed": {
            str(int(size)): {"accuracy": float(hit.mean()), "size": float(size)}
            for size, hit in zip(sizes, hits, strict=True)
        },
        "routed": {f"{t:.1f}": route(trust, hits, sizes, t) for t in THRESHOLDS},
        "reranked": {"accuracy": float(again.mean()), "size": float(cost)},
    }


def route(
    trust: NDArray, hits: NDArray[np.bool_], sizes: NDArray, threshold: float
) -> dict[str, float]:
    """Each text takes the first prefix that is trusted enough, else the last.

    Args:
        trust: share of votes for the winner at each prefix, [J, N].
        hits: whether that prefix is right, [J, N].
        sizes: of the prefixes, [J].
        threshold: trust that is enough.
    """
    enough = trust >= threshold - 1e-9
    enough[-1] = True
    used = enough.argmax(axis=0)
    accuracy = hits[used, np.arange(hits.shape[1])].mean()
    return {"accuracy": float(accuracy), "size": float(sizes[used].mean())}


def _vote_share(labels: Labels) -> NDArray[np.float64]:
    return votes(labels, int(labels.max()) + 1).max(axis=1) / labels.shape[1]


def measure_unseen(test: Sequence[Tensor], labels: Labels, unseen: NDArray[np.bool_]) -> Any:
    """R-precision among the test texts of fine labels that were never trained on: curves."""
    rows = torch.from_numpy(np.flatnonzero(unseen))
    inner = labels[unseen]
    curves: Curves = {name: [] for name in level_names(labels)}
    for vectors in test:
        near = cosines(vectors[rows])
        for level, name in enumerate(curves):
            curves[name].append(float(np.nanmean(r_precision(near, inner[:, level]))))
    return curves


def knn_curve(
    train: Sequence[Tensor], train_labels: Labels, test: Sequence[Tensor], labels: Labels
) -> list[float]:
    """Accuracy of one label of the test texts [N] by training texts, at each prefix."""
    return [
        float(knn_hits(train_labels[neighbours(cosines(queries, keys))], labels).mean())
        for keys, queries in zip(train, test, strict=True)
    ]
