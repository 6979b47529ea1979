"""What groups of features add to boosted trees: one protocol for warm and cold viewers.

Trees learn from the positives before the last ones and rank the last ones among fresh negatives.
A viewer's measures are means over repeats, which differ by negatives and by which fifth of the
viewers says when to stop.

Axes: V viewers, C candidates, R repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.interference.columns import Groups, matrix
from train.interference.measures import MEASURES, Floats, measures, paired, summary
from train.interference.ratings import Ratings
from train.interference.split import Split, for_ranker
from train.interference.study import Lift
from train.prefix.statistics import holm
from train.trees import fitted

Arms = Mapping[str, tuple[str, ...]]  # arm -> its groups of columns
Pairs = Sequence[tuple[str, str]]
Scorer = Callable[[Split, Split, int], Mapping[str, Floats]]  # learn, test, repeat -> arm -> [V, C]
TESTED = ("ndcg_10", "tail_50")
BUCKETS = {"1 to 8": (1, 8), "9 to 20": (9, 20), "21 to 100": (21, 100), "over 100": (101, 10**9)}
_STOP = 5  # one viewer in this many says when to stop


@dataclass(frozen=True)
class Ranked:
    """What became of the arms.

    Attributes:
        lengths: of the viewers' histories before they were cut. [V].
        values: arm -> measure -> mean over repeats. [V].
        splits: the test of each repeat.
        scores: arm -> of each repeat. [V, C] each.
    """

    lengths: NDArray[np.int64]
    values: dict[str, dict[str, Floats]]
    splits: list[Split]
    scores: dict[str, list[Floats]]


def rank(
    ratings: Ratings,
    config: Lift,
    arms: Arms,
    make: Callable[[Split], Groups],
    most_history: int | None = None,
) -> Ranked:
    """Teach trees of every arm and rank the test's candidates, in each repeat.

    Args:
        ratings: of the set.
        config: of the protocol.
        arms: which groups of columns each reads.
        make: columns of a split; learned from its `train` alone.
        most_history: newest likes that are known; None = all.
    """
    return repeated(ratings, config, tree_scores(config, arms, make), most_history)


def repeated(
    ratings: Ratings, config: Lift, score: Scorer, most_history: int | None = None
) -> Ranked:
    """As `rank`, of arms that are scored by anything."""
    values: dict[str, list[dict[str, Floats]]] = {}
    scores: dict[str, list[Floats]] = {}
    splits, lengths = [], np.empty(0, np.int64)
    for repeat in range(config.num_repeats):
        learn, test = for_ranker(ratings, config.split, repeat, config.num_learn)
        lengths = test.lengths
        if most_history is not None:
            learn, test = learn.newest(most_history), test.newest(most_history)
        for arm, found in score(learn, test, repeat).items():
            values.setdefault(arm, []).append(measures(found, test))
            scores.setdefault(arm, []).append(found)
        splits.append(test)
    means = {
        arm: {key: np.mean([one[key] for one in of], axis=0) for key in MEASURES}
        for arm, of in values.items()
    }
    return Ranked(lengths, means, splits, scores)


def tree_scores(config: Lift, arms: Arms, make: Callable[[Split], Groups]) -> Scorer:
    """Boosted trees of every arm; arguments as of `rank`."""

    def score(learn: Split, test: Split, repeat: int) -> dict[str, Floats]:
        columns = make(learn), make(test)
        return {
            arm: _predicted(columns, learn, names, config, repeat).reshape(test.hit.shape)
            for arm, names in arms.items()
        }

    return score


def stopping(learn: Split, config: Lift, repeat: int) -> NDArray[np.bool_]:
    """The fifth of the viewers that says when to stop. [V]."""
    rng = np.random.default_rng([config.split.seed, repeat])
    return rng.permutation(len(learn.viewer)) % _STOP == 0


def _predicted(
    columns: tuple[Groups, Groups], learn: Split, names: tuple[str, ...], config: Lift, repeat: int
) -> Floats:
    """Scores of the test's candidates, one after the other. [V C]."""
    _, rows = matrix(columns[0], names)
    _, test = matrix(columns[1], names)
    stops = np.repeat(stopping(learn, config, repeat), learn.hit.shape[1])
    label = learn.hit.reshape(-1).astype(np.float32)
    trees = replace(config.trees, seed=config.trees.seed + repeat)
    header = [str(at) for at in range(rows.shape[1])]  # lightgbm allows no commas
    model = fitted((rows[~stops], label[~stops]), (rows[stops], label[stops]), header, trees)
    return model(test)


def told(ranked: Ranked, pairs: Pairs) -> dict[str, Any]:
    """Arms and their differences, as the report keeps them."""
    return {
        "viewers": len(ranked.lengths),
        "history": _quartiles(ranked.lengths),
        "arms": {arm: summary(of) for arm, of in ranked.values.items()},
        "differences": differences(ranked.values, pairs),
        "long_tail": at_equal_precision(ranked, pairs),
    }


def differences(
    values: Mapping[str, Mapping[str, Floats]], pairs: Pairs
) -> dict[str, dict[str, Any]]:
    """Paired differences of arms, corrected for how many there are; per measure."""
    return {
        key: paired({f"{a} − {b}": values[a][key] - values[b][key] for a, b in pairs})
        for key in TESTED
    }


def by_length(ranked: Ranked, pairs: Pairs) -> dict[str, Any]:
    """The differences among viewers of each length of history, corrected over all lengths."""
    inside = {
        name: (ranked.lengths >= low) & (ranked.lengths <= high)
        for name, (low, high) in BUCKETS.items()
    }
    found: dict[str, Any] = {"viewers": {name: int(of.sum()) for name, of in inside.items()}}
    for key in TESTED:
        found[key] = paired(
            {
                f"{name}: {a} − {b}": np.where(
                    of, ranked.values[a][key] - ranked.values[b][key], np.nan
                )
                for name, of in inside.items()
                for a, b in pairs
            }
        )
    return found


def at_equal_precision(
    ranked: Ranked, pairs: Pairs, depths: Sequence[int] = (10, 50), num_rounds: int = 1000
) -> dict[str, Any]:
    """Long-tail recall where precision is the other arm's at a depth of 10 and of 50.

    A list is cut as deep as its mean precision stays at or above the other's; recall is that of
    long-tail hits, over viewers that have some. Viewers are drawn anew for the intervals.
    """
    tables = {arm: _cumulated(ranked, arm) for arm in {arm for pair in pairs for arm in pair}}
    rare = np.mean([_rare(split).sum(1) for split in ranked.splits], axis=0)
    num = len(rare)
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.ones((1, num)), rng.multinomial(num, [1 / num] * num, num_rounds)])
    curves = {
        arm: (
            (weights @ hits) / num / np.arange(1, hits.shape[1] + 1),
            (weights @ tail) / np.maximum(weights @ rare, 1e-12)[:, None],
        )
        for arm, (hits, tail) in tables.items()
    }
    found: dict[str, Any] = {}
    for depth in depths:
        drawn = {}
        for a, b in pairs:
            (precision, recall), (wanted, base) = curves[a], curves[b]
            cut = min(depth, precision.shape[1]) - 1
            enough = precision >= wanted[:, cut, None] - 1e-12
            deepest = enough.shape[1] - 1 - enough[:, ::-1].argmax(1)
            reached = np.where(
                enough.any(1), np.take_along_axis(recall, deepest[:, None], 1)[:, 0], 0.0
            )
            drawn[f"{a} − {b}"] = (reached, base[:, cut])
        found[str(depth)] = _told_precision(drawn)
    return found


def _told_precision(drawn: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Any]:
    """Recalls of the first round, which is all viewers once, and intervals of the others."""
    found: dict[str, Any] = {}
    for name, (ours, other) in drawn.items():
        delta = (ours - other)[1:]
        low, high = np.quantile(delta, [0.025, 0.975])
        side = min((delta <= 0).sum(), (delta >= 0).sum())
        found[name] = {
            "recall": float(ours[0]),
            "other": float(other[0]),
            "difference": float(ours[0] - other[0]),
            "low": float(low),
            "high": float(high),
            "p": min(1.0, 2 * (int(side) + 1) / (len(delta) + 1)),
        }
    corrected = holm({name: of["p"] for name, of in found.items()})
    return {name: of | {"p_holm": corrected[name]} for name, of in found.items()}


def _cumulated(ranked: Ranked, arm: str) -> tuple[Floats, Floats]:
    """Hits, and hits of the long tail, among each viewer's first k; means over repeats. [V, C]."""
    hits, tails = [], []
    for split, scores in zip(ranked.splits, ranked.scores[arm], strict=True):
        places = np.argsort(-scores, axis=1, kind="stable")
        hits.append(np.take_along_axis(split.hit, places, 1).cumsum(1))
        tails.append(np.take_along_axis(_rare(split), places, 1).cumsum(1))
    return np.mean(hits, axis=0), np.mean(tails, axis=0)


def _rare(split: Split) -> NDArray[np.bool_]:
    """Hits of the long tail. [V, C]."""
    return split.hit & split.long_tail[split.candidates]


def _quartiles(lengths: NDArray[np.int64]) -> dict[str, float]:
    low, middle, high = np.quantile(lengths, [0.25, 0.5, 0.75])
    return {"quarter": float(low), "median": float(middle), "three_quarters": float(high)}
