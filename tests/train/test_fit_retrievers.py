"""Every retrieval baseline is fitted as its name says."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.schema import DAY_MS, SPLITS
from train.baselines import Ease, ItemNeighbours, Popular, Transitions, fit_retrievers
from train.rows import Past, read_examples

CORPUS = np.arange(1, 801)


@pytest.fixture(scope="module")
def past(prepared):
    """All that was shown in the world."""
    return Past.of(read_examples(prepared, *SPLITS))


def test_each_is_what_its_name_says(past):
    """Fitted alone, each kind gives the scores of the one in the set; recent is seven days."""
    fitted = fit_retrievers(past, CORPUS)
    week_ms = past.at_ms.max() - 7 * DAY_MS
    alone = {
        "popular": Popular.fit(past, CORPUS),
        "popular_7_days": Popular.fit(past, CORPUS, since_ms=week_ms),
        "transitions": Transitions.fit(past, CORPUS),
        "ease": Ease.fit(past, CORPUS),
        "item_knn": ItemNeighbours.fit(past, CORPUS),
    }
    liked = np.array([[3, 17, 200], [-1, 5, 9]])

    assert set(fitted) == {*alone, "blend"}
    assert past.at_ms.min() < week_ms  # or seven days are all
    for name, baseline in alone.items():
        np.testing.assert_allclose(fitted[name].scores(liked), baseline.scores(liked), rtol=1e-5)
    assert not np.allclose(fitted["blend"].scores(liked), fitted["ease"].scores(liked))


def test_without_a_clock_there_are_no_last_days(past):
    """A log of places instead of times has no newest week."""
    assert "popular_7_days" not in fit_retrievers(past, CORPUS, with_clock=False)
