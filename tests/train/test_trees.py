"""Boosted trees are a baseline only if they know no more than the models."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.schema import ACTION_NAMES, EXAMPLES, SPLITS
from train.baselines import RANKING
from train.metrics import auc
from train.rows import flatten, read_examples
from train.trees import TreeSettings, as_of, attributes, predict

CLICK = ACTION_NAMES.index("click")
QUICK = TreeSettings(num_rounds=60, min_data_in_leaf=40, patience=20)


@pytest.fixture(scope="module")
def log(prepared):
    """All rows of the world, as the trees see them."""
    return flatten(read_examples(prepared, *SPLITS))


@pytest.fixture(scope="module")
def predicted(prepared):
    """What quickly fitted trees say of the test rows."""
    pytest.importorskip("lightgbm")
    return predict(prepared, QUICK, [CLICK])


def features(rows):
    """As-of features with a topic and a length made from the post's id."""
    return as_of(rows, rows.post_id % 5, 5.0 + rows.post_id % 20)


def test_features_are_of_earlier_rows_only(log):
    """Flipping and cutting what comes later changes no feature of what came before."""
    now = int(np.median(log.shown_at_ms))
    known, later = log.shown_at_ms <= now, log.shown_at_ms >= now
    flipped = replace(
        log,
        did=np.where(later, ~log.did & log.observed, log.did),
        dwell_s=np.where(later, np.float32(7.0), log.dwell_s),
    )
    before, after, cut = features(log), features(flipped), features(log.take(known))
    shared = before.keys() & after.keys() & cut.keys()
    assert {
        "user_click",
        "post_click",
        "author_click",
        "topic_watched",
        "user_author_click",
    } < shared
    for name in shared:
        np.testing.assert_allclose(after[name][known], before[name][known], err_msg=name)
        np.testing.assert_allclose(cut[name], before[name][known], err_msg=name)
    assert not np.allclose(after["user_click"][~known], before["user_click"][~known])


def test_features_by_counting(log):
    """A viewer's mean stay is that of the strictly earlier rows, longer ones capped."""
    found = features(log)
    for row in range(0, len(log), 1501):
        mine = (log.user_id == log.user_id[row]) & (log.shown_at_ms < log.shown_at_ms[row])
        assert found["user_num_shown"][row] == mine.sum()
        stays = np.minimum(log.dwell_s[mine], 60.0)
        stays = stays[~np.isnan(stays)]
        assert found["user_dwell_s"][row] == pytest.approx(stays.mean() if len(stays) else 0.0)


def test_attributes_are_numbers():
    """Facts become a column each, words in their order; what few accounts have is left out."""
    rare = [["age=30", "city=rome"], ["age=20", "city=oslo", "odd=1"], None] + [["age=40"]] * 198
    found = attributes(pl_lists(rare))
    assert set(found) == {"fact_age"}
    np.testing.assert_array_equal(found["fact_age"][:3], [30, 20, np.nan])
    few = attributes(pl_lists(rare[:3]))
    np.testing.assert_array_equal(few["fact_city"], [2, 1, np.nan])


def pl_lists(values):
    """A column of lists of words."""
    import polars as pl

    return pl.Series(values, dtype=pl.List(pl.String))


def test_the_same_data_give_the_same_numbers(prepared, predicted):
    """Two fits agree to the bit."""
    np.testing.assert_array_equal(predict(prepared, QUICK, [CLICK]), predicted)


def test_better_than_rates(prepared, log, predicted):
    """On the synthetic world trees order clicks better than any single rate."""
    rows = flatten(read_examples(prepared, "test"))
    of_test = np.arange(len(log)) >= len(log) - len(rows)
    label = rows.label(CLICK)
    rates = {name: auc(label, score(log, CLICK)[of_test]) for name, score in RANKING.items()}
    assert len(predicted) == len(rows)
    assert auc(label, predicted[:, CLICK]) > max(rates.values())


def test_the_future_teaches_nothing(prepared, predicted, tmp_path):
    """Other outcomes of the last hours of the test split leave all earlier predictions alone."""
    data = shutil.copytree(prepared, tmp_path / "data")
    test = read_examples(data, "test")
    late = np.quantile(test["at_ms"].to_numpy(), 0.9)
    records = test.to_pylist()
    for record in records:
        if record["at_ms"] >= late:
            record["did"] = [0] * len(record["did"])
    folder = data / "examples" / "split=test"
    shutil.rmtree(folder)
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(records, schema=EXAMPLES), folder / "0.parquet")
    rows = flatten(test)
    early = rows.shown_at_ms < late
    assert 0 < early.sum() < len(early)
    np.testing.assert_array_equal(predict(data, QUICK, [CLICK])[early], predicted[early])
