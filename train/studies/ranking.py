"""The ranker beside as-of rates and boosted trees: every action, one run per seed, the same rows.

Runs learn from the training split and keep the weights that were best on the validation split;
the test split is looked at once, here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import model_validator

from pipelines.facts import Facts
from pipelines.intervals import bootstrap_interval
from pipelines.prepared import read_manifest
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train import trees
from train.baselines import PROBABILITIES, RANKING
from train.compare import Statistic, mean_of, minus
from train.evaluate import predict
from train.loop import TrainConfig
from train.metrics import (
    auc_of_weights,
    calibration,
    calibration_error,
    calibration_error_by_chance,
    normalised_entropy,
)
from train.models.ranker import Ranker
from train.report import REPORTS, header, write
from train.rows import Rows, flatten, read_examples
from train.runs import read_run
from train.studies import Study
from train.studies.seeds import Results, fit_seeds, load_run, mean_and_spread, prepared

TREES = "boosted_trees"
Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]


class RankingStudy(Study):
    """A ranker's settings, and the data on which it is set beside its baselines."""

    study: Literal["ranking"] = "ranking"
    data: str = "configs/data/kuairand.yaml"  # a file of configs/data/
    run: TrainConfig  # its seed, data and name's ending are the study's

    @model_validator(mode="after")
    def _learns_a_ranker(self) -> RankingStudy:
        if self.run.learning.kind != "ranker":
            raise ValueError(
                f"run.learning.kind: a ranking study needs 'ranker', not {self.run.learning.kind!r}"
            )
        return self


def ranking(study: RankingStudy) -> Path:
    """Run the study and write its report; returns its page."""
    return write(study.report, rank(study), REPORTS)


def rank(study: RankingStudy) -> Results:
    """Train a run per seed, predict the test rows, and measure every action they could show.

    Returns:
        header; data -> counts; runs -> how each went; and by the data set's name of each action
        what `measure` gives.

    Raises:
        InputError: the data is missing; the text says what to fetch.
    """
    data = prepared(study.data)
    manifest = read_manifest(data)
    folders = fit_seeds(study.run, data, study.seeds)
    test = read_examples(data, "test")
    before = read_examples(data, "train", "validate")
    log = flatten(pa.concat_tables([before, test]))
    is_test = log.example >= len(before)
    facts = Facts.load(data)
    runs: dict[str, Floats] = {}
    for folder in folders:
        ranker = load_run(folder, data)
        assert isinstance(ranker, Ranker)  # as the settings promise
        runs[folder.name] = predict(ranker, test, facts)
    results: Results = {
        "header": header(manifest["fingerprint"], study.seeds),
        "data": {"name": manifest["name"], "num_test_rows": int(is_test.sum())},
        "settings": study.run.model_dump(mode="json", exclude_unset=True),
        "runs": {folder.name: _story(folder) for folder in folders},
    }
    by_trees = _trees(data)
    for action in range(len(ACTION_NAMES)):
        if action == DWELL_TIME or not log.seen(action)[is_test].any():
            continue
        name = manifest["action_names"].get(ACTION_NAMES[action], ACTION_NAMES[action])
        results[name] = measure(log, is_test, action, runs, by_trees)
    return results


def measure(
    log: Rows,
    test: Bools,
    action: int,
    runs: Mapping[str, Floats],
    by_trees: Floats | None,
) -> Results:
    """One action of the test rows by every metric: the runs, their mean, and each baseline.

    Args:
        log: all rows known; the as-of rates look at each row's past in it.
        test: which rows are measured. [len(log)].
        action: index into ACTION_NAMES.
        runs: name -> probabilities of the test rows, in their order. [n, A] each.
        by_trees: likewise those of the boosted trees, NaN for what they cannot say; None = not
            fitted.

    Returns:
        num_rows, num_positives, rate; auc, ne (normalised entropy), calibration (promised over
        done), calibration_error (in probability) and what of it is chance, means over the runs
        with `_spread` beside
        them; seeds and baselines -> name -> the same; differences -> "auc against NAME" and so
        on -> model minus baseline with its 95 % interval over viewers, for the best as-of rate
        and the trees.
    """
    seen = log.seen(action)[test]
    label, viewer = log.label(action)[test][seen], log.user_id[test][seen]
    models = {name: p[seen, action].astype(np.float64) for name, p in runs.items()}
    others = {name: score(log, action)[test][seen] for name, score in RANKING.items()}
    best = max(others, key=lambda name: auc_of_weights(label, others[name])(None))
    compared = [best]
    if by_trees is not None and not np.isnan(by_trees[:, action]).any():
        others[TREES] = by_trees[seen, action]
        compared.append(TREES)
    seeds = {name: _measures(label, p, True) for name, p in models.items()}
    likely = PROBABILITIES | {TREES}
    return {
        "num_rows": len(label),
        "num_positives": int(label.sum()),
        "rate": float(label.mean()),
        **mean_and_spread(list(seeds.values())),
        "seeds": seeds,
        "baselines": {n: _measures(label, s, n in likely) for n, s in others.items()},
        "differences": _differences(
            label, viewer, list(models.values()), {n: others[n] for n in compared}, likely
        ),
    }


def _measures(label: Bools, score: Floats, is_probability: bool) -> dict[str, float]:
    values = {"auc": auc_of_weights(label, score)(None)}
    if is_probability:
        values["ne"] = normalised_entropy(label, score)
        values["calibration"] = calibration(label, score)
        values["calibration_error"] = calibration_error(label, score)
        values["calibration_error_by_chance"] = calibration_error_by_chance(score)
    return values


def _differences(
    label: Bools,
    viewer: NDArray[np.int64],
    models: Sequence[Floats],
    others: Mapping[str, Floats],
    likely: frozenset[str],
) -> Results:
    """The runs' mean minus each baseline, with intervals when viewers are drawn anew."""
    found: Results = {}
    measures: dict[str, Callable[[Floats], Statistic]] = {
        "auc": lambda score: auc_of_weights(label, score),
        "ne": lambda score: partial(normalised_entropy, label, score),
    }
    for metric, of in measures.items():
        each = [of(score) for score in models]
        for name, score in others.items():
            if metric == "ne" and name not in likely:
                continue
            difference = minus(mean_of(each), of(score))
            low, high = bootstrap_interval(viewer, difference)
            found[f"{metric} against {name}"] = {
                "difference": difference(None),
                "low": low,
                "high": high,
            }
    return found


def _trees(data: Path) -> Floats | None:
    """The boosted trees' word on the test rows, or none where lightgbm is not installed."""
    if trees.is_installed():
        return trees.predict(data)
    logging.getLogger(__name__).warning("%s: left out, %s", TREES, trees.MISSING)
    return None


def _story(folder: Path) -> Results:
    """Of a run: steps, those skipped, and its best validation loss."""
    _, story = read_run(folder)
    return {
        "total_steps": story["total_steps"],
        "skipped_steps": story["skipped_steps"],
        "best_validation_loss": min(epoch["loss"] for epoch in story["epochs"]),
        "git_commit": story.get("git_commit", "unknown"),
    }
