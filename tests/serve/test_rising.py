"""What rises: acts per showing and hour, drawn towards what all posts get."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.schema import DAY_MS, POSTS
from pipelines.signals import PRIOR
from serve.live.state import LiveState
from serve.stores.bundle import Stores
from serve.stores.posts import PostStore
from serve.stores.recent import RecentPosts
from serve.stores.rising import Rising, velocity

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_040_000
COUNTED = ("num_views", "num_likes", "num_replies", "num_reposts")


def counts(*rows: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """Views, likes, replies and reposts of each post."""
    return dict(zip(COUNTED, np.array(rows, np.int64).reshape(-1, 4).T, strict=True))


def test_velocity_by_hand():
    """Only what the window made counts, per hour; what nobody counted or touched is 0."""
    now = counts((100, 12, 3, 2), (50, 5, 0, 0), (10, 0, 0, 0), (-1, -1, -1, -1))
    before = counts((60, 4, 1, 1), (0, 0, 0, 0), (0, 0, 0, 0), (-1, -1, -1, -1))
    found = velocity(now, before, np.array([24.0, 2.0, 24.0, 24.0]))
    overall = (11 + 5) / (40 + 50 + 10)

    assert found[0] == pytest.approx((11 + PRIOR * overall) / (40 + PRIOR) / 24)
    assert found[1] == pytest.approx((5 + PRIOR * overall) / (50 + PRIOR) / 2)
    assert found[2:].tolist() == [0, 0]


def test_more_acts_on_equal_showings_are_faster():
    """With all else equal a like more is faster, a showing more slower, one lucky like no wave."""
    now = counts((100, 20, 0, 0), (100, 21, 0, 0), (101, 20, 0, 0), (1, 1, 0, 0))
    found = velocity(now, counts(*[(0, 0, 0, 0)] * 4), np.full(4, 24.0))

    assert found[1] > found[0] > found[2]
    assert found[3] < 2 * found[0]  # one like after one showing is no rate of 1


def store(ages_hours: list[float | None]) -> PostStore:
    """Posts 1 to n of these ages."""
    made = [None if age is None else int(NOW_MS - age * HOUR_MS) for age in ages_hours]
    rows = [{"post_id": n, "created_at_ms": at} for n, at in enumerate(made, start=1)]
    posts = pa.Table.from_pylist(rows, POSTS.arrow)
    return PostStore(posts.append_column("popularity", pa.array([0.0] * len(rows))))


def test_a_young_post_is_as_fast_as_its_hours():
    """Of equal counts the younger is faster, under an hour and of unknown age apart."""
    asked = []

    def engagement(post_id, at_ms):
        asked.append(at_ms)
        return counts(*[(at_ms // HOUR_MS * 0 + 90, 9, 0, 0)] * len(post_id)) | (
            {} if len(asked) % 2 else dict.fromkeys(COUNTED, np.zeros(len(post_id), np.int64))
        )

    rising = Rising(store([30.0, 6.0, 0.5, 0.1, None]), engagement)
    hits = rising.at(10, NOW_MS, 24.0)

    assert hits.post_id.tolist() == [3, 4, 2, 1, 5]
    assert hits.value[0] == hits.value[1] == pytest.approx(24 * hits.value[3])
    assert hits.value[3] == hits.value[4]
    minute_ms = NOW_MS // 60_000 * 60_000
    assert asked == [minute_ms, minute_ms - DAY_MS]
    assert rising.at(2, NOW_MS + 100, 24.0).post_id.tolist() == [3, 4]  # the same minute
    assert len(asked) == 2
    rising.at(2, NOW_MS + 60_000, 24.0)
    assert len(asked) == 4


def test_a_bundle_knows_its_last_day(bundle):
    """As-of counts of posts reach a day back, so that what rises is not what was always liked."""
    stores = Stores.of(bundle, LiveState(RecentPosts(), lambda: bundle.as_of_ms))
    at_ms = bundle.as_of_ms + HOUR_MS
    hits = stores.surfaces.rising.at(50, at_ms, 23.0)
    minute_ms = at_ms // 60_000 * 60_000
    now, before = (
        stores.engagement(hits.post_id, instant)
        for instant in (minute_ms, minute_ms - 23 * HOUR_MS)
    )

    assert len(hits.post_id)
    assert (before["num_views"] > 0).any()
    acts = sum(np.maximum(now[name] - before[name], 0) for name in COUNTED[1:])
    assert (acts > 0).all()
