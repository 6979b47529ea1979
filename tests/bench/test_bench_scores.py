"""The benches of what the ranker keeps, on a tiny bundle and on paper."""

from __future__ import annotations

from tests.bench.bench_routed import two_of
from tests.bench.bench_scores import measure


def test_kept_predictions_are_those_of_a_pass(bundle):
    """Each way is timed, and what is kept differs in the last bits at most."""
    found = measure(bundle, num_viewers=3, num_candidates=4)
    assert set(found) == {"without", "misses", "hits"}
    assert all(way["largest difference"] < 1e-5 for way in found.values())


def test_two_replicas_keep_contexts_and_are_told_apart_by_viewer_alone():
    """Both ways have two replicas of the Ranker and one of all else; only the router differs."""
    ways = {}
    for own in (False, True):
        (application,) = two_of("Ranker", own)["applications"]
        ways[own] = {deployment["name"]: deployment for deployment in application["deployments"]}
        replicas = {name: found["num_replicas"] for name, found in ways[own].items()}
        assert replicas == {"FeedHandler": 1, "Retriever": 1, "Ranker": 2, "Scorer": 1}
    assert ways[True]["Ranker"].pop("request_router_config")
    assert ways[True] == ways[False]
