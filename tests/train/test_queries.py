"""Questions ask for what was not known, with all that was known."""

import numpy as np
import pyarrow.compute as pc
import pytest

from pipelines.schema import ACTION_NAMES, SPLITS
from train.queries import Queries
from train.rows import Past, flatten, read_examples

CLICK = ACTION_NAMES.index("click")


@pytest.fixture(scope="module")
def queries(prepared):
    """What test viewers clicked first in the test split."""
    past = Past.of(read_examples(prepared, *SPLITS))
    return Queries.of(read_examples(prepared, "test"), past, np.arange(1, 801), CLICK)


def test_queries_ask_for_new_clicked_posts(prepared, queries):
    """Each relevant post was clicked in the visit and not shown to the viewer before it."""
    whole = flatten(read_examples(prepared, *SPLITS))
    test = read_examples(prepared, "test")
    first_shown = {}
    for user, post, at_ms in zip(whole.user_id, whole.post_id, whole.shown_at_ms, strict=True):
        key = (user, post)
        first_shown[key] = min(at_ms, first_shown.get(key, at_ms))
    expected = set()
    for i, example in enumerate(test.to_pylist()):
        for post, did in zip(example["post_id"], example["did"], strict=True):
            if did >> CLICK & 1 and first_shown[example["user_id"], post] >= example["at_ms"]:
                expected.add((i, post))
    query, row = queries.relevant
    assert set(zip(queries.example[query].tolist(), (row + 1).tolist(), strict=True)) == expected


def test_queries_know_all_that_was_seen_before(prepared, queries):
    """Everything in an example's history is among the seen posts of its query."""
    test = read_examples(prepared, "test").to_pylist()
    for q in range(0, len(queries.example), 7):
        seen = set((queries.seen[1][queries.seen[0] == q] + 1).tolist())
        assert set(test[queries.example[q]]["history_post_id"]) <= seen


def small_queries() -> Queries:
    """Two queries over posts 0..4: the first saw 1 and wants 2, the second wants 0 and 9."""
    return Queries(
        example=np.array([0, 1]),
        user_id=np.array([1, 2]),
        liked=np.full((2, 1), -1),
        seen=(np.array([0]), np.array([1])),
        relevant=(np.array([0, 1, 1]), np.array([2, 0, -1])),
    )


def test_seen_posts_leave_the_page():
    """Seen posts and gaps are dropped, later ones move up, short pages end in -1."""
    pages = np.array([[1, 3, 2], [1, -1, 0]])
    np.testing.assert_array_equal(small_queries().unseen(pages, 2), [[3, 2], [1, 0]])
    np.testing.assert_array_equal(
        small_queries().unseen(pages, 4), [[3, 2, -1, -1], [1, 0, -1, -1]]
    )


def test_nothing_later_than_the_visit_is_known(prepared):
    """Leaving out everything shown after a visit changes no query of it."""
    test = read_examples(prepared, "test")
    cut = int(np.median(test["at_ms"].to_numpy()))
    early = test.filter(pc.less(test["at_ms"], cut))
    whole, corpus = Past.of(read_examples(prepared, *SPLITS)), np.arange(1, 801)
    now, then = (Queries.of(early, past, corpus, CLICK) for past in (whole, whole.until(cut)))
    for name in ("example", "liked", "seen", "relevant"):
        np.testing.assert_array_equal(getattr(now, name), getattr(then, name))
