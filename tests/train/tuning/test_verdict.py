"""What tuning was worth: differences have the right sign, and settings go back one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest

from train import bundle as bundles
from train.tuning.blend_results import _better
from train.tuning.replayed import ModelsThen
from train.tuning.verdict import compare, sensitivity

VIEWER = np.repeat(np.arange(20), 2)
TUNED = {
    "weights.favorite": 3.0,
    "interference.alpha": 2.0,
    "interference.field.scale_weights.0": 1.0,
    "interference.field.scale_weights.1": 5.0,
    "interference.field.num_scales": 2,
    "scorers.dpp.theta": 0.3,
    "scorers.dpp.window": 7,
    "post_filters.author_cap.max_posts": 2,
}


class Asked:
    """Pages that measure nothing and remember what was asked of them."""

    viewer = VIEWER

    def __init__(self) -> None:
        self.settings: list[dict[str, Any]] = []

    def measure_all(self, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The place among what was asked, at each request."""
        self.settings.append(dict(settings))
        return {"ndcg_10": np.full(len(VIEWER), float(len(self.settings)))}


def test_the_difference_is_after_less_before():
    """Over requests of which both can tell, with an interval that holds it, by viewers."""
    before = np.linspace(0, 1, 40)
    after = before + 0.25 + 0.1 * np.sin(np.arange(40))
    before[3], after[5] = np.nan, np.nan

    row = compare(VIEWER, {"value_10": before}, {"value_10": after})["value_10"]

    both = np.isfinite(before) & np.isfinite(after)
    assert row.num_requests == 38
    assert row.difference == pytest.approx((after - before)[both].mean())
    assert row.after - row.before == pytest.approx(row.difference)
    assert 0.2 < row.interval[0] < row.difference < row.interval[1] < 0.3


def test_each_setting_goes_back_alone():
    """To the untuned and, where it weighs something, to nothing; scale weights go together."""
    pages = Asked()

    found = sensitivity(pages, TUNED, "ndcg_10")

    def without(*names: str) -> dict[str, Any]:
        return {name: value for name, value in TUNED.items() if name not in names}

    scales = "interference.field.scale_weights"
    fields = [name for name in TUNED if name.startswith("interference.")]
    dpp = without("scorers.dpp.theta", "scorers.dpp.window") | {"scorers.dpp": None}
    expected = {
        "weights.favorite": (without("weights.favorite"), TUNED | {"weights.favorite": 0.0}),
        "interference.alpha": (
            without("interference.alpha"),
            without(*fields) | {"interference.alpha": 0.0},
        ),
        scales: (without(f"{scales}.0", f"{scales}.1"), None),
        "interference.field.num_scales": (without("interference.field.num_scales"), None),
        "scorers.dpp.theta": (without("scorers.dpp.theta"), dpp),
        "scorers.dpp.window": (without("scorers.dpp.window"), dpp),
        "post_filters.author_cap.max_posts": (without("post_filters.author_cap.max_posts"), None),
    }
    assert list(found) == list(expected)
    assert pages.settings[0] == TUNED
    asked = iter(pages.settings[1:])
    for name, (default, off) in expected.items():
        assert next(asked) == default
        assert off is None or next(asked) == off
        assert (found[name]["off"] is None) == (off is None)
        assert found[name]["default"].difference > 0  # later asked, larger
    assert next(asked, None) is None


def test_equal_is_not_better(search_of):
    """A bundle is only worth writing where some objective is better than untuned."""
    config = search_of(objectives={"value_10": "minimize", "ndcg_10": "maximize"})
    default = {"value_10": 0.5, "ndcg_10": 0.2}

    def better(*values: float) -> bool:
        return _better(optuna.trial.create_trial(values=list(values)), default, config)

    assert not better(0.5, 0.2)
    assert not better(0.6, 0.1)
    assert better(0.4, 0.1)
    assert better(0.6, 0.3)


def test_counts_are_as_of_the_visit(bundle_path, prepared):
    """What a post had been shown by then: nothing at first, and never what came later."""
    then = ModelsThen(bundles.load(bundle_path), prepared)
    rates = pq.read_table(prepared / "rates" / "post.parquet").to_pandas()
    ids = np.unique(rates["id"])[:40]
    first, last = int(rates["from_ms"].min()), int(rates["from_ms"].max())

    for at_ms in (first - 1000, (first + last) // 2, last):
        known = rates[rates["from_ms"] // 1000 <= at_ms // 1000].groupby("id")["shown"].max()
        expected = known.reindex(ids, fill_value=0).to_numpy()
        assert then.engagement(ids, at_ms)["num_views"].tolist() == expected.tolist()
    assert expected.sum() > 0
    assert not then.engagement(ids, first - 1000)["num_views"].any()
