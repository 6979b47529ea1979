"""A served request reads what a training example of the same moment would hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.facts import Facts
from pipelines.features import example_inputs
from pipelines.schema import EXAMPLES
from serve.deployments import Ranker
from serve.models import Ranking
from serve.stores.profiles import ProfileStore

SURFACE = 3


@pytest.mark.parametrize("hours", [0, 0.02, 1, 90])
def test_served_features_equal_trained_ones(prepared, bundle, hours):
    """Every input of the ranker, as-of rates and all, is the same to the bit on both paths.

    The example is what the data job would write of a visit so many hours after the log.
    """
    at_ms = bundle.as_of_ms + int(hours * 3_600_000)
    posts = bundle.posts.slice(5, 40)
    columns = {"post_id": posts["post_id"], "author_id": posts["author_id"]}
    post_id, author_id = (column.to_numpy() for column in columns.values())
    profiles = ProfileStore(bundle.profiles)
    histories = [profiles.history(user_id) for user_id in range(1, 30)]
    histories = [history for history in histories if history is not None]
    assert len(histories) > 10
    rows = []
    for history in histories:
        row = {"user_id": history.user_id, "at_ms": at_ms}
        for name in ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms"):
            row[f"history_{name}"] = getattr(history, name).tolist()
        row |= {name: column.to_pylist() for name, column in columns.items()}
        row |= {"surface": [SURFACE] * 40, "shown_at_ms": [at_ms] * 40}
        rows.append(row | {"did": [0] * 40, "observed": [0] * 40, "dwell_s": [0.0] * 40})
    ranker, spec = Ranker(bundle), bundle.load_ranker().config.features
    trained = example_inputs(pa.Table.from_pylist(rows, EXAMPLES), spec, Facts.load(prepared))
    served = ranker.inputs([Ranking(h, post_id, author_id, SURFACE, at_ms) for h in histories])

    assert trained.keys() == served.keys()
    assert spec.rates
    assert np.abs(served["candidate_signals"]).max() > 0.1
    for name, array in served.items():
        np.testing.assert_array_equal(trained[name], array, err_msg=name)
