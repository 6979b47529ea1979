"""One made-up viewer's page, word for word, so that no change of the feed goes unnoticed.

When a change is meant, record the page again and read the difference before committing:

    python -m tests.golden.test_feed && git diff tests/golden/feed.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, Disturbed, World, broken

GOLDEN = Path(__file__).with_name("feed.json")


def record() -> dict[str, Any]:
    """Pages of a known viewer, of a new one, and of the known one without the ranker."""
    world = World(num_posts=120, num_authors=12)
    down = Disturbed(world, rank=broken)
    return {
        "known viewer": page(world, world, user_id=5),
        "new viewer": page(world, world, user_id=STRANGER),
        "ranker down": page(world, down, user_id=5),
    }


def page(world: World, services: Any, user_id: int) -> dict[str, Any]:
    """Served posts with reasons, and what was dropped on the way."""
    pipeline = Pipeline.build(FeedConfig())
    result = serve(pipeline, world.query(user_id, limit=8), services)
    explainer = Explainer(pipeline, ACTION_NAMES)
    return {
        "cold_start": result.cold_start,
        "degraded": list(result.degraded),
        "posts": [
            {
                "post_id": int(result.page.post_id[row]),
                "author_id": int(result.page["author_id"][row]),
                "score": round(float(result.page["score"][row]), 6),
                "reason": explainer.reason(result, row),
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
