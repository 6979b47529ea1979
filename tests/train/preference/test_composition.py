"""Mixtures of stakeholders: their pairs, and what is composed without learning again."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.preference.planted import planted
from tests.train.preference.shared_data import SHARED, needs_shared
from train.preference.composition import composition, mixed_pairs, mixtures
from train.preference.pairs import sample
from train.preference.published import COMPOSED_VOLUME, COMPOSITION
from train.preference.stakeholders import movielens
from train.preference.training import FitConfig


def test_shares_add_up_and_nobody_has_all():
    """Eighteen mixtures of three, each a whole; the corners keep their places."""
    found = mixtures(3)
    assert len(found) == 18
    assert {0, 5, 20}.isdisjoint(found)
    for shares in found.values():
        assert shares.sum() == pytest.approx(1)
        assert shares.max() < 1


def test_pairs_of_a_mixture_are_its_stakeholders():
    """All of one stakeholder's share gives that one's pairs; half of two gives some of both."""
    own = sample(planted().utility, 200, (42,))

    def agree(shares: list[float], who: int) -> float:
        preferred, rejected = mixed_pairs(own, np.array(shares), [2, 0, 1], seed=1)
        told = {
            (a, b) if first else (b, a)
            for a, b, first in zip(
                own.first[0], own.second[0], own.prefers_first[0, who], strict=True
            )
        }
        return np.mean([(a, b) in told for a, b in zip(preferred, rejected, strict=True)])

    assert agree([1, 0, 0], 2) == 1
    assert agree([0, 1, 0], 0) == 1
    assert 0.5 < agree([0.5, 0.5, 0], 2) < 1


def test_mixtures_are_learned_by_bradley_terry():
    """A mixture has no worth of its own, so the loss of the settings changes nothing of it."""
    plain, other = (
        composition(planted(60), FitConfig(loss=loss, num_epochs=3), 100)
        for loss in ("bt", "calibrated")
    )
    assert plain == other


@needs_shared
def test_the_published_composition_comes_out():
    """ML-100K: mean cosine 0.979, 16 of 18 above 0.95, hypervolume 0.939."""
    found = composition(movielens.space("ml_100k", movielens.read_100k(SHARED)[0]))
    assert found["cosine_mean"] == pytest.approx(COMPOSITION["ml_100k"], abs=0.001)
    assert (found["above_0.95"], found["mixtures"]) == (16, 18)
    assert found["hypervolume_composed"] == pytest.approx(COMPOSED_VOLUME["ml_100k"], abs=0.001)
