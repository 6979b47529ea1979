"""Baselines of retrieval must be honest before anything may be compared with them."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.schema import ACTION_NAMES
from train.baselines import (
    LIKES,
    Blend,
    Ease,
    ItemNeighbours,
    Popular,
    Transitions,
    liked_pairs,
    retrieval,
    top_posts,
)
from train.baselines.blend import hold_out
from train.rows import Past, read_examples

LIKED = 1 << ACTION_NAMES.index("click")


def past_of(*trails: list[int]) -> Past:
    """Viewer 1, 2, ... liked these posts one after the other."""
    users = np.repeat(np.arange(1, len(trails) + 1), [len(trail) for trail in trails])
    posts = np.array([post for trail in trails for post in trail])
    return Past(users, posts, np.arange(len(posts)), np.full(len(posts), LIKED))


CORPUS = np.array([10, 20, 30, 40])


def test_past_starts_before_the_log(prepared):
    """A viewer's past is the history of the first example, then every candidate, in order."""
    test = read_examples(prepared, "test")
    whole, end = Past.of(test), 1 << 41
    user = whole.user_id[len(whole.user_id) // 2]
    [start], [stop] = whole.before(np.array([user]), np.array([end]))
    mine = [e for e in test.sort_by("at_ms").to_pylist() if e["user_id"] == user]
    posts = mine[0]["history_post_id"] + [p for e in mine for p in e["post_id"]]
    np.testing.assert_array_equal(whole.post_id[start:stop], posts)
    [start], [stop] = whole.before(np.array([user]), np.array([mine[0]["at_ms"]]))
    assert stop - start == len(mine[0]["history_post_id"])


def test_popular_counts_likes_in_its_window():
    """Likes are counted, from the given time on."""
    past = past_of([10, 20], [20, 30])
    np.testing.assert_array_equal(Popular.fit(past, CORPUS).scores(np.array([[0]])), [[1, 2, 1, 0]])
    late = Popular.fit(past, CORPUS, since_ms=2)
    np.testing.assert_array_equal(late.scores(np.array([[0]])), [[0, 1, 1, 0]])


def test_unliked_posts_teach_nothing():
    """What was merely shown, or disliked, is no like."""
    past = past_of([10, 20])
    shown = replace(past, did=np.array([1 << ACTION_NAMES.index("report"), LIKED]))
    assert LIKES & (1 << ACTION_NAMES.index("report")) == 0
    np.testing.assert_array_equal(Popular.fit(shown, CORPUS).count, [0, 1, 0, 0])


def test_transitions_by_hand():
    """After 10 came 20 twice (next) and 30 once (one further, so it counts decay times)."""
    past = past_of([10, 20, 30], [10, 20])
    fitted = Transitions.fit(past, CORPUS, window=2, decay=0.5, damping=0)
    np.testing.assert_allclose(fitted.scores(np.array([[0, -1]])), [[0, 2, 0.5, 0]])
    # 20 is the newest like; 10, one older, counts half.
    np.testing.assert_allclose(fitted.scores(np.array([[0, 1]])), [[0, 1, 1.25, 0]])
    np.testing.assert_allclose(fitted.scores(np.array([[-1, -1]])), [[0, 0, 0, 0]])
    # Damped, each post says 1 in all: of 10's 2.5, 20 has 2 and 30 the rest.
    damped = Transitions.fit(past, CORPUS, window=2, decay=0.5, damping=1)
    np.testing.assert_allclose(damped.scores(np.array([[0, 1]])), [[0, 0.4, 1.1, 0]], rtol=1e-6)


def test_ease_by_least_squares():
    """Each column of B solves ridge regression on all other posts."""
    rng = np.random.default_rng(0)
    trails = [list(rng.choice(CORPUS, rng.integers(1, 5), replace=False)) for _ in range(30)]
    past = past_of(*trails)
    fitted = Ease.fit(past, CORPUS, l2=2.0)
    x = np.array([[post in trail for post in CORPUS] for trail in trails], float)
    for j in range(4):
        others = [i for i in range(4) if i != j]
        gram = x[:, others].T @ x[:, others] + 2.0 * np.eye(3)
        expected = np.linalg.solve(gram, x[:, others].T @ x[:, j])
        alone = np.full((3, 1), -1)
        alone[:, 0] = others  # a viewer for each other post, who liked only that
        np.testing.assert_allclose(fitted.scores(alone)[:, j], expected, atol=1e-5)


def test_ease_keeps_to_its_most_liked_posts():
    """Posts left out of the fit score 0, and liking them changes nothing."""
    fitted = Ease.fit(past_of([10, 20], [10, 20], [20, 30]), CORPUS, l2=1.0, max_posts=2)
    scores = fitted.scores(np.array([[0, -1], [0, 2], [2, -1]]))
    assert scores[0, 1] > 0
    assert np.all(scores[:, 2:] == 0)
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[2], 0)


def test_a_viewer_likes_a_post_once():
    """Likes of one post count once a viewer, and posts outside the corpus not at all."""
    viewer, post = liked_pairs(past_of([20, 10, 20], [99, 40]), CORPUS)
    assert list(zip(viewer.tolist(), post.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 3)]


def test_neighbours_by_hand():
    """10 and 20 share two viewers of three and two: 2 / (sqrt(3 x 2) + shrink)."""
    past = past_of([10, 20], [10, 20, 30], [10])
    fitted = ItemNeighbours.fit(past, CORPUS, shrink=1.0)
    ten = [0, 2 / (6**0.5 + 1), 1 / (3**0.5 + 1), 0]
    thirty = [1 / (3**0.5 + 1), 1 / (2**0.5 + 1), 0, 0]
    np.testing.assert_allclose(fitted.scores(np.array([[0, 0]]))[0], ten, rtol=1e-6)
    both = np.add(ten, thirty)
    np.testing.assert_allclose(fitted.scores(np.array([[2, 0]]))[0], both, rtol=1e-6)
    nearest = ItemNeighbours.fit(past, CORPUS, shrink=1.0, num_neighbours=1)
    np.testing.assert_allclose(nearest.scores(np.array([[0]]))[0], [0, ten[1], 0, 0], rtol=1e-6)


def test_held_out_likes_are_the_last():
    """The last like leaves the past; those before it are asked with; one like is not enough."""
    past = past_of([10, 20, 30], [40], [30, 20])
    kept, liked, target = hold_out(past, CORPUS, num_held=5, num_liked=4, seed=0)
    order = np.argsort(target)
    assert target[order].tolist() == [1, 2]
    assert liked[order].tolist() == [[-1, -1, -1, 2], [-1, -1, 0, 1]]
    assert kept.post_id.tolist() == [10, 20, 40, 30]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_blend_weighs_what_helps(ordered):
    """Where one post leads to the next, transitions decide; else EASE has a say."""
    rng = np.random.default_rng(0)
    corpus = np.arange(1, 41)
    trails = []
    for k in range(120):
        if ordered:
            trails.append([1 + (3 * k + step) % 40 for step in range(6)])
        else:
            trails.append(list(rng.permutation(corpus[k % 4 :: 4])[:9]))
    blend = Blend.fit(past_of(*trails), corpus)
    page = top_posts(blend, np.array([[0]]), (np.array([0]), np.array([0])), 3)
    if ordered:
        assert page[0, 0] == 1
        assert blend.transitions.window == 1
    else:
        assert blend.weight > 0
        assert np.all(page % 4 == 0)


@pytest.mark.parametrize("fit", [Transitions.fit, Ease.fit, ItemNeighbours.fit, Blend.fit])
def test_neighbours_are_of_the_viewers_kind(fit):
    """Of two crowds with posts of their own, a viewer gets the posts of the own crowd."""
    rng = np.random.default_rng(0)
    corpus = np.arange(1, 21)
    crowds = [list(rng.permutation(corpus[k % 2 :: 2])[:6]) for k in range(40)]
    fitted = fit(past_of(*crowds), corpus)
    liked = np.array([[0, 2], [1, 3]])
    seen = (np.array([0, 0, 1, 1]), liked.ravel())
    pages = top_posts(fitted, liked, seen, 8)
    assert np.all(pages % 2 == [[0], [1]])


def test_pages_leave_out_what_was_seen():
    """Seen posts never come back, ties keep corpus order, and short pages end in -1."""
    retriever = Popular(np.array([1, 3, 3, 2], np.float32))
    liked = np.full((300, 1), -1)
    seen = (np.array([1, 1, 299]), np.array([1, 3, 2]))
    pages = top_posts(retriever, liked, seen, 4)
    np.testing.assert_array_equal(pages[0], [1, 2, 3, 0])
    np.testing.assert_array_equal(pages[1], [2, 0, -1, -1])
    np.testing.assert_array_equal(pages[299], [1, 3, 0, -1])


def test_co_likes_are_counted_the_same_both_ways(monkeypatch):
    """Pair by pair or as a matrix product, two posts are liked together as often."""
    rng = np.random.default_rng(0)
    ones = np.ones(600, np.int64)
    past = Past(np.sort(rng.integers(1, 50, 600)), rng.integers(1, 40, 600), 0 * ones, ones)
    corpus = np.arange(1, 40)
    found = []
    for seconds_a_pair in (0.0, 1.0):
        monkeypatch.setattr(retrieval, "_PAIR", seconds_a_pair)
        found.append(retrieval.together(past, corpus, max_posts=30))

    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
