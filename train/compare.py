"""Sets a model's predictions beside the baselines on the same rows.

No model is run here: `compare_ranking` takes predictions, `compare_retrieval` pages. Results
are plain dicts, metric -> action or model -> number, that train/report.py writes as they are.

Axes: n test rows, A actions, Q queries, H liked posts, P posts of the corpus, k results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import pad
from pipelines.facts import find
from pipelines.schema import ACTION_NAMES, DAY_MS, DWELL_TIME
from train.baselines import (
    COUNTS,
    LIKES,
    RANKING,
    Blend,
    ItemNeighbours,
    Popular,
    Retriever,
    Transitions,
)
from train.metrics import (
    auc_of_weights,
    bootstrap_interval,
    calibration,
    calibration_error,
    hit_rate_at_k,
    mean,
    mean_absolute_error,
    ndcg_at_k,
    normalised_entropy,
    recall_at_k,
)
from train.rows import Past, Rows, flatten, ranges

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Results = dict[str, Any]

NUM_LIKED = 64  # newest likes that a retrieval baseline looks at, H
CUTOFFS = (10, 100)  # k of recall


def compare_ranking(
    log: Rows,
    test: NDArray[np.bool_],
    predicted: NDArray[np.float32],
    names: Mapping[str, str],
    others: Mapping[str, NDArray[np.floating]] = MappingProxyType({}),
) -> Results:
    """Every discrete action that the test rows could show, by every metric.

    Read grouped_auc with care: of a viewer's few rows with some acts among them, those after
    an act hold fewer of the rest, so whatever follows the viewer's own acts from row to row is
    pushed below 0.5 (user_rate most, a model that reads the history a little, post_rate not).

    Args:
        log: all rows known, of all splits; baselines look at each row's past in it.
        test: which rows of `log` are compared on. [len(log)].
        predicted: probabilities for the test rows, in their order. [n, A].
        names: an action's name in the data set, where it has another.
        others: further baselines' probabilities, as `predicted`; NaN = says nothing of an action.

    Returns:
        metric -> action -> model, each baseline, best_baseline (its name), difference
        (model minus best) and its 95 % interval over viewers; calibration measures have
        values only. rows -> action -> number of rows and positives.
    """
    metrics = ("auc", "grouped_auc", "normalised_entropy", "calibration", "calibration_error")
    results: Results = {"rows": {}, **{metric: {} for metric in metrics}}
    user = log.user_id[test]
    for action, schema_name in enumerate(ACTION_NAMES):
        seen = log.seen(action)[test]
        if action == DWELL_TIME or not seen.any():
            continue
        name = names.get(schema_name, schema_name)
        label, who = log.label(action)[test][seen], user[seen]
        scores = {"model": predicted[seen, action].astype(np.float64)}
        scores |= {key: score(log, action)[test][seen] for key, score in RANKING.items()}
        for key, p in others.items():
            if not np.isnan(p[seen, action]).any():
                scores[key] = p[seen, action].astype(np.float64)
        likely = {key: p for key, p in scores.items() if key not in COUNTS}
        results["rows"][name] = {
            "action": schema_name,
            "num_rows": len(label),
            "num_positives": int(label.sum()),
            "rate": float(label.mean()),
        }
        results["auc"][name] = _beside(
            {key: auc_of_weights(label, s) for key, s in scores.items()}, who
        )
        results["grouped_auc"][name] = _beside(
            {key: auc_of_weights(label, s, who) for key, s in scores.items()}, who
        )
        results["normalised_entropy"][name] = _beside(
            {key: partial(normalised_entropy, label, p) for key, p in likely.items()},
            who,
            lower_is_better=True,
        )
        for function in (calibration, calibration_error):
            of_each = {key: function(label, p) for key, p in likely.items()}
            results[function.__name__][name] = of_each
    return results


def compare_dwell(
    before: Rows, test: Rows, seconds: NDArray[np.float32], cap_s: float
) -> Results | None:
    """Mean absolute error of the time spent, beside always saying the median of `before`.

    Args:
        before: rows that the constant may be learned from.
        test: rows compared on.
        seconds: predicted for the test rows. [n].
        cap_s: longer stays count as this long for the model; errors are given with and
            without the cap.

    Returns:
        None where the log measured no dwell times.
    """
    known = before.dwell_s[before.seen(DWELL_TIME)]
    seen = test.seen(DWELL_TIME)
    if not len(known) or not seen.any():
        return None
    results: Results = {}
    for name, most in (("capped", cap_s), ("uncapped", np.inf)):
        truth = np.minimum(test.dwell_s[seen], most)
        median = np.full(len(truth), np.median(np.minimum(known, most)))
        said = {"model": np.minimum(seconds[seen], most), "median": median}
        results[name] = _beside(
            {key: partial(mean_absolute_error, truth, s) for key, s in said.items()},
            test.user_id[seen],
            lower_is_better=True,
        )
        results[name] |= {"cap_s": float(most) if most < np.inf else None, "num_rows": len(truth)}
    return results


@dataclass(frozen=True)
class Queries:
    """Visits to find posts for, and what would have been right.

    Attributes:
        example: int64 [Q], row of the examples table.
        user_id: int64 [Q].
        liked: int64 [Q, H], corpus rows of the newest likes, oldest first, -1 = padding.
        seen: query and corpus row of every post shown to the viewer before.
        relevant: query and corpus row (-1 = not in the corpus) of each post not seen before
            that was acted on in the visit.
    """

    example: Ids
    user_id: Ids
    liked: Ids
    seen: tuple[Ids, Ids]
    relevant: tuple[Ids, Ids]

    @classmethod
    def of(cls, examples: pa.Table, past: Past, corpus: Ids, action: int) -> Queries:
        """One query for each example with something new to find.

        Args:
            examples: visits, rows of schema.EXAMPLES.
            past: all that viewers were shown; what is not older than a visit is left out.
            corpus: sorted ids of all posts that could be retrieved.
            action: index of the action that makes a shown post right.
        """
        rows = flatten(examples)
        rows = rows.take(rows.label(action))
        user, at_ms = examples["user_id"].to_numpy(), examples["at_ms"].to_numpy()
        place, which = ranges(*past.before(user, at_ms))
        posts = np.unique(np.concatenate([past.post_id, rows.post_id]))  # ids may fill 64 bits
        right, shown = (np.searchsorted(posts, ids) for ids in (rows.post_id, past.post_id[place]))
        num_posts = len(posts)
        new = np.isin(rows.example * num_posts + right, which * num_posts + shown, invert=True)
        target = np.unique(rows.example[new] * num_posts + right[new])
        example, query = np.unique(target // num_posts, return_inverse=True)
        asked = examples.take(example)
        history, did = (
            pad(asked[f"history_{c}"], NUM_LIKED, newest=True) for c in ("post_id", "did")
        )
        place, which = ranges(*past.before(user[example], at_ms[example]))
        row = find(past.post_id[place], corpus)
        return cls(
            example=example,
            user_id=user[example],
            liked=np.where(did & LIKES != 0, find(history, corpus), -1),
            seen=(which[row >= 0], row[row >= 0]),
            relevant=(query, find(posts[target % num_posts], corpus)),
        )

    def unseen(self, pages: Ids, num_posts: int) -> Ids:
        """The first `num_posts` corpus rows of each page that the viewer has not seen.

        Args:
            pages: corpus rows, best first, -1 = nothing. int64 [Q, m].
            num_posts: k.

        Returns:
            int64 [Q, k], -1 where a page ran out.
        """
        width = 1 + max(pages.max(initial=0), self.seen[1].max(initial=0))
        query = np.arange(len(pages))[:, None]
        out = np.isin(query * width + pages, self.seen[0] * width + self.seen[1]) | (pages < 0)
        order = np.argsort(out, axis=1, kind="stable")[:, :num_posts]
        left = np.take_along_axis(np.where(out, -1, pages), order, axis=1)
        return np.pad(left, ((0, 0), (0, num_posts - left.shape[1])), constant_values=-1)

    def hits(self, pages: Ids) -> NDArray[np.bool_]:
        """Which results are right. Pages as for `unseen`; bool of their shape."""
        width = 1 + max(pages.max(initial=0), self.relevant[1].max(initial=0))
        right = self.relevant[1] >= 0
        key = self.relevant[0][right] * width + self.relevant[1][right]
        return np.isin(np.arange(len(pages))[:, None] * width + pages, key) & (pages >= 0)


def retrieval_baselines(past: Past, corpus: Ids) -> dict[str, Retriever]:
    """Every retrieval baseline, fitted on `past`."""
    week_ms = past.at_ms.max(initial=0) - 7 * DAY_MS
    blend = Blend.fit(past, corpus)
    return {
        "popular": Popular.fit(past, corpus),
        "popular_7_days": Popular.fit(past, corpus, since_ms=week_ms),
        "transitions": Transitions.fit(past, corpus),
        "ease": blend.ease,
        "item_knn": ItemNeighbours.fit(past, corpus),
        "blend": blend,
    }


def compare_retrieval(queries: Queries, pages: Mapping[str, Ids]) -> Results:
    """Recall, hit rate and NDCG of the model's pages beside those of the baselines.

    Args:
        queries: what was asked, and what would have been right.
        pages: corpus rows without seen posts for "model" and each baseline. [Q, k].

    Returns:
        metric -> as a metric of `compare_ranking`; queries -> counts.
    """
    num_relevant = np.bincount(queries.relevant[0], minlength=len(queries.example))
    hits = {name: queries.hits(page) for name, page in pages.items()}
    measures: list[tuple[str, Callable[..., Floats], int]] = [
        *((f"recall@{k}", recall_at_k, k) for k in CUTOFFS),
        ("hit_rate@10", hit_rate_at_k, 10),
        ("ndcg@10", ndcg_at_k, 10),
    ]
    results: Results = {
        "queries": {
            "num_queries": len(queries.example),
            "num_viewers": len(np.unique(queries.user_id)),
            "num_relevant": int(num_relevant.sum()),
            "num_outside_corpus": int((queries.relevant[1] < 0).sum()),
        }
    }
    for name, measure, k in measures:
        each = {key: measure(hit, num_relevant, k) for key, hit in hits.items()}
        results[name] = _beside(
            {key: partial(mean, value) for key, value in each.items()}, queries.user_id
        )
    return results


def _beside(
    statistics: Mapping[str, Callable[[Floats | None], float]],
    group: Ids,
    lower_is_better: bool = False,
) -> Results:
    """The model's value, the baselines', and how far it is from the best of them.

    Args:
        statistics: "model" and each baseline -> (row weights, None = ones) -> value.
        group: viewer of each row; viewers are drawn anew for the difference's interval.
        lower_is_better: which baseline is the best.
    """
    values = {name: statistic(None) for name, statistic in statistics.items()}
    sign = -1 if lower_is_better else 1
    known = [name for name in values if name != "model" and not np.isnan(values[name])]
    if not known:
        return {**values, "best_baseline": None, "difference": None, "interval": None}
    best = max(known, key=lambda name: sign * values[name])
    model, baseline = statistics["model"], statistics[best]
    interval = bootstrap_interval(group, lambda weight: model(weight) - baseline(weight))
    difference = values["model"] - values[best]
    return {**values, "best_baseline": best, "difference": difference, "interval": interval}
