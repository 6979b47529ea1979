"""The next item is ranked among all posts, ties counting against it."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.job import prepare
from tests.pipelines.data.small_log import config, write_small
from train.studies.next_item import Asked, _intervals, measures, strict_rank


def test_the_last_event_is_asked_for_knowing_all_before_it(tmp_path):
    """Of each viewer one post, held against all they met before; nothing later is known."""
    prepare(config(write_small(tmp_path), split={"leave_last_out": True}))
    asked = {split: Asked.of(tmp_path / "out", split) for split in ("validate", "test")}

    for split, questions in asked.items():
        history = questions.visits["history_post_id"].to_pylist()
        shown = questions.visits["post_id"].to_pylist()
        assert questions.corpus[questions.target].tolist() == [post for (post,) in shown], split
        met = [questions.corpus[row[row >= 0]].tolist() for row in questions.met]
        assert met == history, split
        assert len(questions.past.post_id) == sum(map(len, history)), split
    best = asked["test"].ranks(
        lambda part: np.eye(len(asked["test"].corpus))[asked["test"].target[part]]
    )
    assert best.tolist() == [0] * len(best)


def test_of_equal_scores_the_asked_for_post_stands_last():
    """Posts that score the same as the asked-for one are counted before it."""
    scores = np.array([[1.0, 2.0, 2.0, 0.5]], np.float32)

    assert strict_rank(scores, np.array([1]), np.array([[-1]])).tolist() == [1]
    assert strict_rank(np.zeros_like(scores), np.array([1]), np.array([[-1]])).tolist() == [3]


def test_seen_posts_are_left_out():
    """What the viewer met before takes no place, padding takes none away."""
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]], np.float32)
    seen = np.array([[0, 1], [1, -1]])

    assert strict_rank(scores, np.array([2, 2]), seen).tolist() == [0, 1]


def test_a_post_asked_for_again_counts():
    """An asked-for post that was met before is ranked all the same."""
    scores = np.array([[4.0, 3.0]], np.float32)

    assert strict_rank(scores, np.array([1]), np.array([[0, 1]])).tolist() == [0]


@pytest.mark.parametrize(
    ("score", "target", "message"), [(np.nan, 0, "1 of 2 scores are NaN"), (1.0, -1, "1 of 1 ask")]
)
def test_what_cannot_be_ranked_is_no_hit(score, target, message):
    """NaN scores and posts outside the corpus are errors, not first places."""
    with pytest.raises(ValueError, match=message):
        strict_rank(np.array([[score, 2.0]], np.float32), np.array([target]), np.array([[-1]]))


def test_measures_by_hand():
    """Ranks 0, 1 and 10 are hits, a hit and a miss at 10: gains 1, 1 / log2(3) and 0."""
    found = measures(np.array([0, 1, 10]))

    assert found["hr10"] == pytest.approx(2 / 3)
    assert found["ndcg10"] == pytest.approx((1 + 1 / np.log2(3)) / 3)


def test_intervals_are_of_the_mean_over_the_runs():
    """Two runs that are right about different viewers are right half of the time, surely."""
    ranks = [np.array([0, 99] * 50), np.array([99, 0] * 50)]
    found = _intervals(ranks)

    assert found["hr10_interval"] == (0.5, 0.5)
    assert found["ndcg10_interval"] == (0.5, 0.5)
