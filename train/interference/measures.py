"""How good rankings of candidates are, viewer by viewer, and whether differences are chance.

Axes: V viewers, C candidates, M measures, R rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.split import Split
from train.metrics import ndcg_at_k, recall_at_k
from train.prefix.statistics import holm

Floats = NDArray[np.float64]
MEASURES = {"ndcg_10": "NDCG@10", "ndcg_50": "NDCG@50", "mrr": "MRR", "tail_50": "LT recall@50"}
NUM_ROUNDS, _AT_ONCE = 10_000, 500


def order(scores: NDArray) -> NDArray[np.int64]:
    """Best first; of equal ones the candidate that comes first. [V, C]."""
    return np.argsort(-scores, axis=1, kind="stable")


def measures(scores: NDArray, split: Split) -> dict[str, Floats]:
    """Each of MEASURES of each viewer; recall of the long tail is NaN without a hit in it. [V]."""
    places = order(scores)
    hit = np.take_along_axis(split.hit, places, 1)
    rare = hit & split.long_tail[np.take_along_axis(split.candidates, places, 1)]
    num = split.hit.sum(1)
    return {
        "ndcg_10": ndcg_at_k(hit, num, 10),
        "ndcg_50": ndcg_at_k(hit, num, 50),
        "mrr": 1 / (1.0 + hit.argmax(1)),
        "tail_50": recall_at_k(rare, rare.sum(1), 50),
    }


def by_chance(num_candidates: int, num_hits: int) -> dict[str, float]:
    """What a random order has on average, exactly.

    Each rank holds a hit with chance h / C, so DCG is that times the sum of discounts. The first
    hit is at rank r with chance C(C - r, h - 1) / C(C, h).
    """
    chance = num_hits / num_candidates
    discount = 1 / np.log2(np.arange(2, num_candidates + 2))
    found = {
        f"ndcg_{k}": float(chance * discount[:k].sum() / discount[: min(k, num_hits)].sum())
        for k in (10, 50)
    }
    none_before, mrr = 1.0, 0.0
    for rank in range(1, num_candidates - num_hits + 2):
        left = num_candidates - rank + 1
        mrr += none_before * num_hits / left / rank
        none_before *= 1 - num_hits / left
    return found | {"mrr": mrr, "tail_50": min(1.0, 50 / num_candidates)}


def summary(values: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Mean over viewers and its standard error, per measure."""
    found = {}
    for name, of in values.items():
        known = of[~np.isnan(of)]
        error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")
        mean = float(known.mean()) if len(known) else float("nan")
        found[name] = {"mean": mean, "error": error, "num": len(known)}
    return found


def paired(
    differences: Mapping[str, Floats], num_rounds: int = NUM_ROUNDS, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Mean differences with 95 % intervals and p values, viewers being drawn anew.

    p is twice the smaller share of rounds on either side of 0, at least 2 / (R + 1); p_holm is
    corrected for the number of differences (Holm 1979).

    Args:
        differences: by name, one value a viewer, NaN = not defined for that viewer. [V] each.
        num_rounds: draws of the viewers, the same for all differences.
        seed: of the draws.

    Returns:
        difference, low, high, p, p_holm and num (viewers) of each name.
    """
    table = np.stack(list(differences.values()), 1)  # [V, M]
    known = (~np.isnan(table)).astype(np.float64)
    table = np.nan_to_num(table)
    rng = np.random.default_rng(seed)
    num = len(table)
    rounds = []
    for first in range(0, num_rounds, _AT_ONCE):
        size = min(_AT_ONCE, num_rounds - first)
        times = rng.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            rounds.append((times @ table) / (times @ known))
    drawn = np.concatenate(rounds)
    found: dict[str, dict[str, Any]] = {}
    for at, name in enumerate(differences):
        of, count = drawn[:, at], int(known[:, at].sum())
        of = of[~np.isnan(of)]
        if not count or not len(of):
            empty = dict.fromkeys(("difference", "low", "high", "p"), float("nan"))
            found[name] = {**empty, "num": count}
            continue
        low, high = np.quantile(of, [0.025, 0.975])
        side = min((of <= 0).sum(), (of >= 0).sum())
        p = min(1.0, 2 * (side + 1) / (len(of) + 1))
        mean = float(table[:, at].sum() / count)
        found[name] = {
            "difference": mean,
            "low": float(low),
            "high": float(high),
            "p": p,
            "num": count,
        }
    corrected = holm({name: of["p"] for name, of in found.items()})
    return {name: {**of, "p_holm": corrected[name]} for name, of in found.items()}
