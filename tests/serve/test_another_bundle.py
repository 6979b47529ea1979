"""Another bundle takes over while the feed is served, and nothing of the one before stays."""

from __future__ import annotations

from dataclasses import replace

from serve.models import version
from tests.serve.feed_server import pass_time, shown


def test_another_bundle_takes_over_between_requests(run, bundle, models):
    """After `use`, answers name the new bundle; a refused one is reported by /healthz."""

    async def test(client, handler):
        before = (await client.get("/healthz")).json()
        assert before["status"] == "ok"
        handler.problem = "elsewhere: not a bundle"
        assert (await client.get("/healthz")).json()["status"] == "stale"
        other = replace(bundle, path="other", card={**bundle.card, "note": "another"})
        handler.use(other, models)
        feed = (await client.post("/v1/feed", json={"user_id": 1})).json()
        assert feed["model"]["bundle"] == "other"
        assert feed["model"]["version"] != before["model"]["version"]
        assert (await client.get("/healthz")).json()["status"] == "ok"

    run(test)


def test_metrics_written_later_do_not_make_another_version(bundle):
    """Replicas that loaded a bundle before and after its evaluation serve the same one."""
    evaluated = replace(bundle, card={**bundle.card, "metrics": {"auc": 0.7}})
    assert version(evaluated) == version(bundle)
    assert version(replace(bundle, card={**bundle.card, "as_of_ms": 1})) != version(bundle)


def test_another_bundle_makes_pages_anew(run, bundle, models):
    """What the models before predicted is nothing that those after them say."""

    async def test(client, handler):
        for path, cached in (("a", False), ("a", True), ("b", False), ("b", True)):
            if handler._serving.model.bundle != path:
                handler.use(replace(bundle, path=path, card={**bundle.card, "note": path}), models)
            feed = (await client.post("/v1/feed", json={"user_id": 3, "limit": 5})).json()
            assert ["cached_posts" in post["sources"] for post in feed["posts"]] == [cached] * 5
            await shown(handler)
            pass_time(handler, 1)

    run(test)
