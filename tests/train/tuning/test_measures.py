"""What pages are measured by, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.feed.table import Candidates
from pipelines.schema import ACTION_NAMES, DWELL_TIME, action_weights
from train.tuning.measures import Judge, Outcomes, calibration, means, outcomes

A = len(ACTION_NAMES)
CLICK, HIDE, REPORT = (ACTION_NAMES.index(n) for n in ("click", "not_interested", "report"))
NAN = float("nan")


def known(predicted: float = 0.5) -> Outcomes:
    """Three candidates, of which two were shown beside a third post: one clicked, one hidden."""
    every = (1 << CLICK) | (1 << HIDE)
    shown = (
        np.array([30, 10, 40]),
        np.array([1 << HIDE, 1 << CLICK, 1 << CLICK]),
        np.array([every, every, every]),
        np.array([50.0, NAN, 3.0], np.float32),
    )
    return outcomes(np.array([10, 20, 30]), np.full((3, A), predicted), shown, CLICK, 20.0)


def test_outcomes_are_those_of_the_log():
    """Done and not done where the log tells, nothing where it does not; stays up to the cap."""
    found = known()

    assert found.relevant.tolist() == [True, False, False]
    assert found.num_relevant == 2  # one was shown and is no candidate
    np.testing.assert_equal(found.done[:, CLICK], [1, NAN, 0])
    np.testing.assert_equal(found.done[:, HIDE], [0, NAN, 1])
    np.testing.assert_equal(found.done[:, DWELL_TIME], [NAN, NAN, 20])
    assert np.isnan(found.done[:, REPORT]).all()


def test_calibration_is_done_over_predicted():
    """Of two logged posts one was clicked and 2 × 0.8 predicted; one of each is added."""
    scale = calibration([known(0.8)])

    assert scale[CLICK] == pytest.approx((1 + 1) / (1.6 + 1))
    assert scale[REPORT] == 1  # nothing is known


def test_pages_by_hand():
    """The log's word where it has one, and the calibrated prediction where not."""
    learned = np.zeros(A, bool)
    learned[[CLICK, HIDE]] = True
    weights = np.where(learned, action_weights(), 0.0)
    scale = np.full(A, 0.5)
    judge = Judge.of(np.array([10, 20, 30]), known(0.4), scale, weights, learned)
    page = Candidates(
        {
            "post_id": np.array([20, 10, 30]),
            "author_id": np.array([5, 5, 0]),
            "topic_ids": np.array([[1, 2], [2, 0], [0, 0]]),
        }
    )

    found = judge.measure(page)

    click, hide = weights[[CLICK, HIDE]]
    assert found["value_10"] == pytest.approx((click + hide + 0.2 * (click + hide)) / 10)
    assert found["negative_10"] == pytest.approx((1 + 0.2) / 10)  # no report: never learned
    # Of what was learned stakeholders count hiding alone: 1 for the user, 4 for society.
    assert found["user_10"] == pytest.approx(-(1 + 0.2) / 10)
    assert found["society_10"] == pytest.approx(-4 * (1 + 0.2) / 10)
    best = 1 + 1 / np.log2(3)
    assert found["ndcg_10"] == pytest.approx(1 / np.log2(3) / best)
    assert found["authors_10"] == 0.5
    assert found["topics_10"] == 1


def test_what_no_request_can_tell_is_unknown():
    """Means are over the requests that can tell; without any there is no number, not a zero."""
    found = means({"a": np.array([1.0, NAN, 3.0]), "b": np.array([NAN, NAN])})

    assert found["a"] == 2
    assert np.isnan(found["b"])
