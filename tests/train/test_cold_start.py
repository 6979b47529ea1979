"""The study of cold rows looks at these rows, and only at them."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest

from pipelines.schema import ACTION_NAMES
from tests.conftest import write_untrained_seeds
from train.report import plain
from train.rows import Past, flatten, read_examples
from train.studies import cold_start as module
from train.studies.cold_start import ColdData, ColdStart, codes_on_off, cold_start

CLICK = ACTION_NAMES.index("click")
SETTINGS = ColdStart(
    data=(ColdData(config="world", source="behaviour"),),
    num_events=30,  # the world's viewers have about fifty
    semantic_ids=module.SemanticIds(num_levels=2, num_codes=16, num_factors=8),
    emb_size=16,
)


@pytest.fixture
def results(prepared, tmp_path, monkeypatch):
    """The study on the synthetic world, with models that learned nothing."""
    data = shutil.copytree(prepared, tmp_path / "world")
    monkeypatch.setattr(module, "prepared", lambda config: data)
    monkeypatch.setattr(module, "fit_seeds", partial(write_untrained_seeds, out=tmp_path))
    return cold_start(SETTINGS, (0, 1))["world"]


def test_the_rows_are_the_cold_ones(results, prepared):
    """Counts equal those by hand: short pasts, posts nowhere in training; nothing is missing."""
    test = read_examples(prepared, "test")
    short = np.array([len(past) < 30 for past in test["history_post_id"].to_pylist()])
    rows = flatten(test)
    new = results["new_viewers"]
    assert 0 < new["num_visits"] == short.sum() < len(short)
    assert new["ranking"]["num_rows"] == (short[rows.example] & rows.seen(CLICK)).sum()
    assert set(new["ranking"]["auc"]) >= {"model", "post_rate", "difference", "interval"}
    assert set(new["retrieval"]["recall@100"]) >= {"model", "ease", "blend", "interval"}
    clicked = np.isin(np.flatnonzero(short), rows.example[rows.label(CLICK)])
    assert 0 < new["retrieval"]["queries"]["num_queries"] <= clicked.sum()
    met = Past.of(read_examples(prepared, "train")).post_id
    unseen = np.array([post not in set(met.tolist()) for post in rows.post_id.tolist()])
    posts = results["posts"]
    assert 0 < posts["unseen"]["num_rows"] == (unseen & rows.seen(CLICK)).sum()
    assert posts["seen"]["num_rows"] == (~unseen & rows.seen(CLICK)).sum()
    assert {"with_codes_spread", "without_codes_spread"} < set(posts["seen"])
    json.dumps(plain(results), allow_nan=False)


def test_on_and_off_by_hand(prepared):
    """A perfect and a reversed score are one apart, whoever is drawn; too few rows say nothing."""
    rows = flatten(read_examples(prepared, "test"))
    truth = rows.label(CLICK).astype(np.float32)
    found = codes_on_off(rows, CLICK, [truth], [1 - truth])
    assert (found["with_codes"], found["without_codes"]) == (1.0, 0.0)
    assert found["difference"] == 1.0
    assert found["interval"] == (1.0, 1.0)
    assert found["num_positives"] == truth.sum()
    few = codes_on_off(rows.take(slice(0, 3)), CLICK, [truth[:3]], [truth[:3]])
    assert "with_codes" not in few
    assert few["num_rows"] == 3
