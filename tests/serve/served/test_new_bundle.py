"""Another bundle is swapped in while requests go on; one that is none is not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import write_bundle
from tests.serve.served.feed import apply, eventually, with_bundle

pytestmark = pytest.mark.ray


def test_another_bundle_is_loaded_without_a_refusal(served, prepared, tmp_path):
    """A new `user_config` swaps the bundle in place while requests go on, none of them refused."""
    other = write_bundle(prepared, tmp_path / "other", seed=1)
    before = served.http.get("/healthz").json()["model"]
    config = with_bundle(served.config, other)
    replies = []
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(apply, config)
        deadline = time.monotonic() + 60
        while served.http.get("/healthz").json()["model"]["bundle"] != str(other):
            replies.append(served.feed(4))
            assert time.monotonic() < deadline
        deploying.result()
    replies.append(served.feed(4))
    assert {reply.status_code for reply in replies} == {200}
    assert replies[-1].json()["model"]["version"] != before["version"]


def test_a_bad_bundle_is_refused_and_the_old_one_served(served, tmp_path):
    """A bundle that is none leaves the feed as it was, and /healthz says why."""
    before = served.http.get("/healthz").json()["model"]
    apply(with_bundle(served.config, tmp_path / "nothing"))
    eventually(lambda: served.http.get("/healthz").json()["status"] == "stale")
    health = served.http.get("/healthz").json()
    assert "nothing: not a bundle" in health["problem"]
    assert health["model"] == before
    assert served.feed(5).json()["degraded"] == []


def test_a_model_left_behind_is_named_by_health(served, prepared, tmp_path):
    """When only the Ranker cannot load a bundle, /healthz names it until all serve the same."""
    torn = write_bundle(prepared, tmp_path / "torn", seed=2)
    (torn / "ranker.safetensors").write_bytes(b"half a file")
    before = served.http.get("/healthz").json()["model"]["version"]
    apply(with_bundle(served.config, torn))

    def left_behind() -> bool:
        health = served.http.get("/healthz").json()
        now = health["model"]["version"]
        return health["problem"] == f"Ranker serves bundle version {before}, FeedHandler {now}"

    eventually(left_behind)
    assert served.http.get("/healthz").json()["status"] == "stale"
    assert served.feed(6).json()["posts"]
    apply(with_bundle(served.config, served.bundle))
    eventually(lambda: served.http.get("/healthz").json()["status"] == "ok")
    versions = served.http.get("/healthz").json()["versions"]
    assert set(versions) == {"Retriever", "Ranker", "Scorer"}
