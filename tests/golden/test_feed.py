"""One made-up viewer's page, word for word, so that no change of the feed goes unnoticed.

When a change is meant, record the page again and read the difference before committing:

    python -m tests.golden.test_feed && git diff tests/golden/feed.json
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import configs
from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.services import Served
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import NOW_MS, STRANGER, Disturbed, World, broken

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("feed.json")


def record() -> dict[str, Any]:
    """Pages of a known and a new viewer, without the ranker, and in a world with all there is."""
    world = World(num_posts=120, num_authors=12)
    down = Disturbed(world, rank=broken)
    return {
        "known viewer": page(world, world, user_id=5),
        "new viewer": page(world, world, user_id=STRANGER),
        "ranker down": page(world, down, user_id=5),
        "lively world": page(lively(), lively(), user_id=5),
        "explore": page(lively(), lively(), 5, surface("explore")),
        "search": page(lively(), lively(), 5, surface("search"), text="a post like 7 or 44"),
        "conversations": page(talking(), talking(), 5, surface("conversations"), focal_post_id=2),
    }


def surface(name: str) -> FeedConfig:
    """The shipped feed of a surface."""
    return configs.load(ROOT / "configs" / "feeds" / f"{name}.yaml", FeedConfig)


def talking() -> World:
    """The lively world, where each post answers an earlier one."""
    world = lively()
    world.thread(world.post_id // 2)
    return world


def lively() -> World:
    """Replies, reposts, labels, topics, new authors, and a page served an hour ago."""
    world = World(num_posts=120, num_authors=12)
    ids = world.post_id
    for name, every in (("reply_to", 5), ("repost_of", 7), ("quote_of", 11)):
        target = np.where(ids % every == 0, (ids * 13) % 120 + 1, 0)
        author = np.where(target > 0, world.author_id[target - 1], 0)
        world.facts[f"{name}_post_id"] = target
        world.facts[f"{name.removesuffix('_of')}_author_id"] = author
    reply_to = world.facts["reply_to_post_id"]
    world.facts["conversation_id"] = np.where(reply_to > 0, reply_to, ids)
    world.facts["topic_ids"] = np.stack([ids % 4 + 1, ids % 3], axis=1)
    world.counts["num_views"] = ids * 53 % 1500
    world.labelled["post"] = dict.fromkeys(range(6, 120, 9), ("disputed",))
    world.labelled["post"] |= dict.fromkeys(range(4, 120, 20), ("spam",))
    world.about = world.space.astype(np.float32)
    shown = np.arange(1, 120, 15)
    topics = world.facts["topic_ids"][shown - 1]
    hour_ago = np.full(len(shown), NOW_MS - 3_600_000)
    world.pages = Served(shown, world.author_id[shown - 1], topics, hour_ago)
    return world


def page(
    world: World, services: Any, user_id: int, feed: FeedConfig | None = None, **asked: Any
) -> dict[str, Any]:
    """Served posts with reasons, and what was dropped on the way."""
    query = replace(world.query(user_id, limit=8), **asked)
    result = serve(Pipeline.build(feed), query, services)
    explainer = Explainer(ACTION_NAMES)
    return {
        "cold_start": result.cold_start,
        "degraded": list(result.degraded),
        "posts": [
            {
                "post_id": int(result.page.post_id[row]),
                "author_id": int(result.page["author_id"][row]),
                "score": round(float(result.page["score"][row]), 6),
                "reason": explainer.reasons(result)[row],
            }
            for row in range(len(result.page))
        ],
        "dropped": {key: ids.tolist() for key, ids in result.dropped.items()},
    }


def test_feed_is_as_recorded():
    """Same world, same settings: the same posts, scores, reasons and drops."""
    assert record() == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n")
