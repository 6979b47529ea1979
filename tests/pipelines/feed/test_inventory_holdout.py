"""The holdout is a share of posts, the same each time, by kind of post."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.feed.filters.inventory_holdout import InventoryHoldout
from pipelines.feed.table import Candidates
from tests.pipelines.feed.four_posts import QUERY


def held_out(percent: dict[str, float], user_id: int, **columns: Any) -> np.ndarray:
    """Which of posts 1 to 20,000 a viewer is not shown. bool [20000]."""
    post_id = np.arange(1, 20_001)
    zero = {name: np.zeros_like(post_id) for name in ("reply_to_post_id", "repost_of_post_id")}
    table = Candidates({"post_id": post_id, **zero, **columns})
    return ~InventoryHoldout(**percent).keep(replace(QUERY, user_id=user_id), table)


def test_the_holdout_is_the_share_asked_for():
    """Off by default; 10 percent are 10 percent, the same each time, others for each viewer."""
    assert not held_out({}, 1).any()
    mine, theirs = (held_out({"original_percent": 10}, user_id) for user_id in (1, 2))
    for out in (mine, theirs):
        assert abs(out.mean() - 0.1) < 0.01
    assert (mine == held_out({"original_percent": 10}, 1)).all()
    assert abs((mine & theirs).mean() - 0.01) < 0.003
    assert (mine <= held_out({"original_percent": 20}, 1)).all()
    assert held_out({"original_percent": 100}, 1).all()
    other = held_out({"original_percent": 10, "salt": 1}, 1)
    assert abs((mine & other).mean() - 0.01) < 0.003


def test_the_holdout_is_by_kind_of_post():
    """Replies and reposts have shares of their own; a repost of a reply is a repost."""
    reply, repost = np.arange(20_000) % 2, np.arange(20_000) % 4 // 2
    columns = {"reply_to_post_id": reply, "repost_of_post_id": repost}
    out = held_out({"reply_percent": 100, "repost_percent": 50}, 1, **columns)
    assert not out[(reply == 0) & (repost == 0)].any()
    assert out[(reply > 0) & (repost == 0)].all()
    assert abs(out[repost > 0].mean() - 0.5) < 0.02
