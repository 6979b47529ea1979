"""Sets a model's predictions beside the baselines on the same rows.

No model is run here: `compare_ranking` takes predictions, `compare_retrieval` pages, those of
several runs if they differ by their seed alone. Results are plain dicts, metric -> action or
model -> number, that train/report.py writes as they are; "model" is the mean over the runs,
"model_spread", where there are several, their standard deviation (n - 1).

Axes: n test rows, A actions, Q queries, k results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.intervals import bootstrap_interval
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train.baselines import (
    COUNTS,
    RANKING,
)
from train.metrics import (
    auc_of_weights,
    calibration,
    calibration_error,
    hit_rate_at_k,
    mean,
    mean_absolute_error,
    ndcg_at_k,
    normalised_entropy,
    recall_at_k,
)
from train.queries import Queries
from train.rows import Rows

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Results = dict[str, Any]
Statistic = Callable[[Floats | None], float]  # row weights, None = ones -> value

CUTOFFS = (10, 100)  # k of recall


def compare_ranking(
    log: Rows,
    test: NDArray[np.bool_],
    predicted: Sequence[NDArray[np.float32]],
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
        predicted: each run's probabilities for the test rows, in their order. [n, A].
        names: an action's name in the data set, where it has another.
        others: further baselines' probabilities, as a run's; NaN = says nothing of an action.

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
        label = log.label(action)[test][seen]
        runs = [p[seen, action].astype(np.float64) for p in predicted]
        scores = {key: score(log, action)[test][seen] for key, score in RANKING.items()}
        for key, p in others.items():
            if not np.isnan(p[seen, action]).any():
                scores[key] = p[seen, action].astype(np.float64)
        results["rows"][name] = {
            "action": schema_name,
            "num_rows": len(label),
            "num_positives": int(label.sum()),
            "rate": float(label.mean()),
        }
        for metric, row in _of_action(label, user[seen], runs, scores).items():
            results[metric][name] = row
    return results


def _of_action(
    label: NDArray[np.bool_], viewer: Ids, runs: Sequence[Floats], scores: Mapping[str, Floats]
) -> Results:
    """Every metric of one action: of the model's runs beside the baselines' scores. All [n]."""
    likely = {key: p for key, p in scores.items() if key not in COUNTS}
    measures: list[tuple[str, Callable[[Floats], Statistic], Mapping[str, Floats], bool]] = [
        ("auc", partial(auc_of_weights, label), scores, False),
        ("grouped_auc", partial(auc_of_weights, label, group=viewer), scores, False),
        ("normalised_entropy", partial(partial, normalised_entropy, label), likely, True),
    ]
    found: Results = {}
    for metric, measure, of, lower_is_better in measures:
        baselines = {key: measure(score) for key, score in of.items()}
        found[metric] = _beside([measure(p) for p in runs], baselines, viewer, lower_is_better)
    for function in (calibration, calibration_error):
        of_each = {key: function(label, p) for key, p in likely.items()}
        of_model = with_spread("model", [function(label, p) for p in runs])
        found[function.__name__] = of_model | of_each
    return found


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
        results[name] = _beside(
            [partial(mean_absolute_error, truth, np.minimum(seconds[seen], most))],
            {"median": partial(mean_absolute_error, truth, median)},
            test.user_id[seen],
            lower_is_better=True,
        )
        results[name] |= {"cap_s": float(most) if most < np.inf else None, "num_rows": len(truth)}
    return results


def compare_retrieval(
    queries: Queries, runs: Sequence[Ids], baselines: Mapping[str, Ids]
) -> Results:
    """Recall, hit rate and NDCG of the model's pages beside those of the baselines.

    Args:
        queries: what was asked, and what would have been right.
        runs: each run's page for every query, corpus rows without seen posts. [Q, k].
        baselines: likewise the baselines'.

    Returns:
        metric -> as a metric of `compare_ranking`; queries -> counts.
    """
    num_relevant = np.bincount(queries.relevant[0], minlength=len(queries.example))
    hits = [queries.hits(page) for page in runs]
    others = {name: queries.hits(page) for name, page in baselines.items()}
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
        results[name] = _beside(
            [partial(mean, measure(hit, num_relevant, k)) for hit in hits],
            {key: partial(mean, measure(hit, num_relevant, k)) for key, hit in others.items()},
            queries.user_id,
        )
    return results


def _beside(
    runs: Sequence[Statistic],
    baselines: Mapping[str, Statistic],
    group: Ids,
    lower_is_better: bool = False,
) -> Results:
    """The model's value, the baselines', and how far it is from the best of them.

    Args:
        runs: of each run.
        baselines: of each baseline.
        group: viewer of each row; viewers are drawn anew for the difference's interval.
        lower_is_better: which baseline is the best.
    """
    values = {name: statistic(None) for name, statistic in baselines.items()}
    of_model = with_spread("model", [run(None) for run in runs])
    sign = -1 if lower_is_better else 1
    known = [name for name in values if not np.isnan(values[name])]
    results: Results = {**of_model, **values}
    if not known:
        return results | {"best_baseline": None, "difference": None, "interval": None}
    best = max(known, key=lambda name: sign * values[name])
    difference = minus(mean_of(runs), baselines[best])
    return results | {
        "best_baseline": best,
        "difference": of_model["model"] - values[best],
        "interval": bootstrap_interval(group, difference),
    }


def minus(one: Statistic, other: Statistic) -> Statistic:
    """The difference of two statistics of the same rows."""
    return lambda weight: one(weight) - other(weight)


def mean_of(runs: Sequence[Statistic]) -> Statistic:
    """The mean of several statistics of the same rows."""
    return lambda weight: float(np.mean([run(weight) for run in runs]))


def with_spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The runs' mean, as `name`, and their spread where there are several."""
    if len(values) == 1:
        return {name: values[0]}
    return {name: float(np.mean(values)), f"{name}_spread": float(np.std(values, ddof=1))}
