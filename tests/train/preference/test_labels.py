"""Where the loss matters and where it does not, and curves by pairs."""

from __future__ import annotations

import pytest

from tests.train.preference.planted import planted
from train.preference.labels import constrained
from train.preference.protocol import TARGET_CURVE, target_curve
from train.preference.stakeholders import synthetic
from train.preference.training import FitConfig

SEEDS = (42,)


def test_rules_act_where_learning_starts_neutral():
    """From the given start the constrained loss is Bradley-Terry; from a neutral one it is not."""
    starts = {
        flag: synthetic.space(100, neutral=flag == "neutral") for flag in ("given", "neutral")
    }
    rows = constrained(starts, SEEDS, FitConfig(num_epochs=10))
    assert len(rows) == 2 * 2 * 3
    acts = {(r["start"], r["stakeholder"]) for r in rows if r["largest_difference"] > 0}
    assert acts == {("neutral", "user"), ("neutral", "society")}
    for row in rows:
        same = (row["start"], row["stakeholder"]) not in acts
        assert (row["cosine"] == pytest.approx(1.0, abs=1e-12)) == same


def test_more_pairs_of_the_target_serve_it():
    """The first stakeholder's curve rises, and so does the accuracy on held-out pairs."""
    curve = target_curve(planted(), (42, 142, 242))
    assert list(curve) == [str(num) for num in TARGET_CURVE]
    few, many = curve["25"], curve["2000"]
    assert many["user"] > few["user"]
    assert many["accuracy"] > few["accuracy"]
    assert many["diversity"] < few["diversity"]
