"""A replay shows what another feed.yaml changes, and nothing where nothing changes."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import check
from pipelines.feed import replay
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.replay import answer, compare, measures, requests
from serve.stores.event_log import impressions
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import NOW_MS, World

WORLD = World()
QUERIES = [WORLD.query(user_id, limit=8) for user_id in range(1, 21)]


def pages(world: World = WORLD, **settings: object) -> list:
    """The pages of a feed with these settings."""
    pipeline = Pipeline.build(check(settings, FeedConfig, place="feed"))
    return asyncio.run(answer(pipeline, QUERIES, world))


def test_the_same_feed_changes_nothing():
    """Every difference and its interval are zero, and all posts are the same."""
    rows = compare(pages(), pages())

    assert (rows["overlap"].new, rows["same_first"].new) == (1, 1)
    for name, row in rows.items():
        if row.num_pages and not np.isnan(row.old):
            assert (row.difference, *row.interval) == (0, 0, 0), name


def test_a_cap_on_authors_shows():
    """Each author once instead of thrice: more authors on a page, with certainty."""
    rows = compare(
        pages(scorers={"author_diversity": None}, post_filters={"author_cap": {"max_posts": 8}}),
        pages(scorers={"author_diversity": None}, post_filters={"author_cap": {"max_posts": 1}}),
    )

    assert rows["authors"].new == 1
    assert rows["authors"].difference == pytest.approx(rows["authors"].new - rows["authors"].old)
    assert 0 < rows["authors"].interval[0] <= rows["authors"].difference
    assert rows["overlap"].new < 1
    assert rows["posts"].difference == 0


def test_measures_by_hand():
    """Two of three posts by one author, topics 1 1 2, one small author of two that are known."""
    result = serve(Pipeline.build(), WORLD.query(limit=3), WORLD)
    page = result.page.take(slice(0, 3))
    columns = {name: values for name, values in page.items() if name != "author_id"}
    columns |= {
        "author_id": np.array([5, 5, 6]),
        "topic_ids": np.array([[1, 7], [1, 0], [2, 0]]),
        "num_followers": np.array([10, 5_000, -1]),
    }
    found = measures(replace(result, page=type(page)(columns)))

    assert found["authors"] == pytest.approx(2 / 3)
    assert found["topics"] == pytest.approx(-(2 / 3) * np.log2(2 / 3) - (1 / 3) * np.log2(1 / 3))
    assert found["small_authors"] == 0.5
    assert found["share_of_full_pages"] == 1
    assert 0 < found["negative_feedback"] < 1


def test_what_a_page_cannot_tell_is_unknown():
    """Without topics and followers there is no number, not a zero."""
    world = World()
    world.num_followers[:] = -1
    world.facts["topic_ids"] = np.zeros((len(world.post_id), 0), np.int64)
    rows = compare(pages(world), pages(world))

    for name in ("topics", "small_authors"):
        assert rows[name].num_pages == 0
        assert np.isnan(rows[name].new)


@pytest.fixture
def log(tmp_path):
    """Two pages of one viewer and one of another, in two files."""
    served = [(1, "a", 0, [4, 5, 6]), (2, "b", 1000, [7]), (1, "c", 500, [8, 9])]
    tables = [
        impressions(user_id, name, NOW_MS + after, 2, np.array(posts))
        for user_id, name, after, posts in served
    ]
    pq.write_table(pa.concat_tables(tables[:2]), tmp_path / "one.parquet")
    pq.write_table(tables[2], tmp_path / "two.parquet")
    return tmp_path


def test_a_log_gives_back_its_requests(log):
    """Who asked, when, for how many posts and where; in the order of time."""
    found = requests(log)

    assert [(q.user_id, q.request_id, q.now_ms - NOW_MS, q.limit, q.surface) for q in found] == [
        (1, "a", 0, 3, 2),
        (1, "c", 500, 2, 2),
        (2, "b", 1000, 1, 2),
    ]
    assert [q.request_id for q in requests(log, 2)] == ["a", "b"]


def test_the_command_compares_two_files(log, tmp_path, bundle_path, monkeypatch, capsys):
    """With a real bundle of untrained models; wrong names are said."""
    (tmp_path / "new.yaml").write_text("post_filters: {author_cap: {max_posts: 1}}")
    given = ["replay", "configs/feed.yaml", str(tmp_path / "new.yaml"), "--log", str(log)]
    monkeypatch.setattr(sys, "argv", [*given, "--bundle", str(bundle_path)])
    assert replay.main() == 0
    out = capsys.readouterr().out
    assert "3 requests, answered twice" in out
    assert "overlap" in out
    for extra, said in (
        (["--services", "serve.offlin:services"], "--services serve.offlin:services: No module"),
        (["--log", str(tmp_path / "nowhere")], "nowhere"),
        (["--bundle", str(tmp_path)], "not a bundle"),
    ):
        monkeypatch.setattr(sys, "argv", [*given, "--bundle", str(bundle_path), *extra])
        assert replay.main() == 2
        assert said in capsys.readouterr().err
