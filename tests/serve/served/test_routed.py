"""A viewer's pages are ranked by the replica of the Ranker that keeps their context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from serve.models import Ranking
from serve.stores.profiles import ProfileStore
from tests.serve.served.feed import apply, eventually
from train.bundle import load

pytestmark = pytest.mark.ray
VISITS = 4  # of each viewer, each on another surface: nothing scored before will do


def test_viewers_find_their_context_more_often_than_by_chance(served):
    """Of two replicas one computes a viewer's context, once; asked without the viewer, both do."""
    from ray import serve

    apply(two_rankers(served.config))
    handle = serve.get_deployment_handle("Ranker", "rayfeed")
    handle._init(_run_router_in_separate_loop=True)  # there is no event loop here
    stats = handle.broadcast
    eventually(lambda: len(stats("stats").results()) == 2, timeout_s=120)  # a busy machine
    bundle, post_id = load(served.bundle), np.arange(1, 9)
    profiles, user_id = ProfileStore(bundle.profiles), bundle.profiles["user_id"].to_pylist()

    def page(user_id: int, surface: int) -> None:
        assert served.feed(user_id, surface=surface).json()["degraded"] == []

    def ranking(user_id: int, surface: int) -> None:
        history = profiles.history(user_id)
        assert history is not None  # it is of the bundle
        asked = Ranking(history, post_id, post_id, surface, int(history.at_ms[-1]) + 1)
        handle.rank.remote(asked).result()

    def hit_rate(ask: Callable[[int, int], None], user_ids: list[int]) -> float:
        before = stats("stats").results()
        for surface in range(1, VISITS + 1):
            for user_id in user_ids:
                ask(user_id, surface)
        after = stats("stats").results()
        hits, misses = (
            sum(s[f"contexts_{what}"] for s in after) - sum(s[f"contexts_{what}"] for s in before)
            for what in ("hits", "misses")
        )
        assert hits + misses == VISITS * len(user_ids)
        return hits / (hits + misses)

    by_viewer, by_chance = hit_rate(page, user_id[:30]), hit_rate(ranking, user_id[30:60])
    apply(served.config)
    assert by_viewer > 0.7 > by_chance  # a first visit in four is a miss, by chance two in four


def two_rankers(config: dict) -> dict:
    """The same with two replicas of the Ranker at least."""
    (application,) = config["applications"]
    deployments = [dict(deployment) for deployment in application["deployments"]]
    (ranker,) = [deployment for deployment in deployments if deployment["name"] == "Ranker"]
    ranker["autoscaling_config"] = {**ranker["autoscaling_config"], "min_replicas": 2}
    return {**config, "applications": [{**application, "deployments": deployments}]}
