"""Baselines must be honest before anything may be compared with them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schema import ACTION_NAMES, SPLITS
from train.baselines import (
    LIKES,
    PRIOR,
    PROBABILITIES,
    RANKING,
    Blend,
    Ease,
    ItemNeighbours,
    Popular,
    Transitions,
    earlier,
    liked_pairs,
    retrieval,
    top_posts,
)
from train.baselines.blend import hold_out
from train.metrics import auc
from train.rows import Past, Rows, flatten, read_examples

CLICK = ACTION_NAMES.index("click")
LIKED = 1 << CLICK


def rows_of(time, user, post, did, observed) -> Rows:
    """Rows in which only these columns matter; did and observed are about clicks."""
    whole = [np.asarray(column, np.int64) for column in (time, user, post)]
    blank = np.zeros(len(time), np.int64)
    observed = np.asarray(observed, np.int64) << CLICK
    return Rows(
        example=blank,
        user_id=whole[1],
        post_id=whole[2],
        author_id=whole[2] % 3,
        surface=blank.astype(np.int16),
        shown_at_ms=whole[0],
        did=(np.asarray(did, np.int64) << CLICK) & observed,
        observed=observed,
        dwell_s=blank.astype(np.float32),
    )


# Few values of each, so that equal times, viewers and posts are common.
LOGS = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=25,
).map(lambda rows: rows_of(*zip(*rows, strict=True)))


@pytest.mark.parametrize("name", RANKING)
@given(rows=LOGS, now=st.integers(0, 6))
def test_no_baseline_sees_the_present_or_the_future(name, rows, now):
    """Leaving out or flipping rows from `now` on changes no score up to and including `now`."""
    scores = RANKING[name](rows, CLICK)
    known = rows.shown_at_ms <= now
    later = rows.shown_at_ms >= now
    flipped = replace(rows, did=np.where(later, ~rows.did & rows.observed, rows.did))
    np.testing.assert_allclose(RANKING[name](flipped, CLICK)[known], scores[known], atol=1e-12)
    np.testing.assert_allclose(RANKING[name](rows.take(known), CLICK), scores[known], atol=1e-12)


@pytest.mark.parametrize("name", RANKING)
@given(rows=LOGS, seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter(name, rows, seed):
    """A row's score is the same wherever it stands in the table."""
    shuffle = np.random.default_rng(seed).permutation(len(rows))
    expected = RANKING[name](rows, CLICK)[shuffle]
    np.testing.assert_allclose(RANKING[name](rows.take(shuffle), CLICK), expected, atol=1e-12)


@given(rows=LOGS)
def test_rates_by_counting(rows):
    """The post rate equals looping over all earlier showings of the post that were observed."""
    scores = RANKING["post_rate"](rows, CLICK)
    label, seen = rows.label(CLICK), rows.seen(CLICK)
    for i in range(len(rows)):
        before = rows.shown_at_ms < rows.shown_at_ms[i]
        same = before & (rows.post_id == rows.post_id[i])
        overall = (label[before].sum() + 1) / (seen[before].sum() + 2)
        rate = (label[same].sum() + PRIOR * overall) / (seen[same].sum() + PRIOR)
        assert scores[i] == pytest.approx(rate)


@pytest.mark.parametrize("name", sorted(PROBABILITIES))
@given(rows=LOGS)
def test_rates_are_probabilities(name, rows):
    """All but popularity lie strictly between 0 and 1, with or without a past."""
    scores = RANKING[name](rows, CLICK)
    assert np.all((scores > 0) & (scores < 1))


def test_earlier_by_hand():
    """Sums of strictly earlier amounts of the same key; equal times see neither each other."""
    key, at_ms = np.array([1, 1, 2, 1, 1]), np.array([5, 5, 5, 9, 2])
    amount = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    np.testing.assert_array_equal(earlier(key, at_ms, amount)[0], [16, 16, 0, 19, 0])


def test_flattened_examples_are_the_log(world, prepared):
    """The candidates of all splits, sorted by time, are the events again."""
    rows = flatten(read_examples(prepared, *SPLITS))
    rows = rows.take(np.lexsort((rows.post_id, rows.user_id, rows.shown_at_ms)))
    log = {name: world.events[name].to_numpy() for name in ("user_id", "post_id", "shown_at_ms")}
    order = np.lexsort((log["post_id"], log["user_id"], log["shown_at_ms"]))
    for name, expected in log.items():
        np.testing.assert_array_equal(getattr(rows, name), expected[order])
    np.testing.assert_array_equal(rows.label(CLICK), world.events["click"].to_numpy()[order])


def test_missing_split_is_named(tmp_path):
    """A data folder without the split is an error that names it."""
    with pytest.raises(FileNotFoundError, match="split=test"):
        read_examples(tmp_path, "test")


def test_rates_find_what_is_planted(prepared):
    """Generous viewers and good authors exist, so their rates order the rows."""
    rows = flatten(read_examples(prepared, "train"))
    late = rows.shown_at_ms > np.median(rows.shown_at_ms)
    favorite = ACTION_NAMES.index("favorite")
    label = rows.label(favorite)[late]
    found = {name: auc(label, score(rows, favorite)[late]) for name, score in RANKING.items()}
    assert found["user_rate"] > 0.55
    assert found["author_rate"] > 0.52
    assert found["user_and_post"] > 0.55


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
