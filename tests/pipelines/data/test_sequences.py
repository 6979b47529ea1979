"""Whole histories of the training split, and splits by viewer instead of by time."""

from __future__ import annotations

import polars as pl

from pipelines.data.job import prepare
from tests.pipelines.data.small_log import EVENTS_ROWS, config, read, write_small


def sequences(out):
    """Viewer -> posts of their sequence, oldest first."""
    rows = pl.read_parquet(out / "sequences" / "*.parquet")
    return dict(rows.select("user_id", "history_post_id").iter_rows())


def test_sequences_end_where_training_ends(tmp_path):
    """A viewer's sequence holds each event up to the end of the training split, no later one."""
    manifest = prepare(config(write_small(tmp_path)))

    assert sequences(tmp_path / "out") == {1: [11, 12, 13], 2: [12]}
    assert manifest["sequences"] == 2


def test_left_out_events_are_in_no_sequence(tmp_path):
    """With the last events left out, each viewer's are one test and one validation example."""
    prepare(config(write_small(tmp_path), split={"leave_last_out": True}))
    out = tmp_path / "out"
    in_order = {
        user: [
            e["post_id"]
            for e in sorted(EVENTS_ROWS, key=lambda e: e["shown_at_ms"])
            if e["user_id"] == user
        ]
        for user in (1, 2)
    }

    assert sequences(out) == {user: posts[:-2] for user, posts in in_order.items()}
    for split, back in (("validate", -2), ("test", -1)):
        rows = read(out, split, "user_id", "post_id", "history_post_id").sort("user_id")
        assert rows["post_id"].to_list() == [[posts[back]] for posts in in_order.values()]
        assert rows["history_post_id"].to_list() == [posts[:back] for posts in in_order.values()]
