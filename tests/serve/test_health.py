"""What is wrong in any part of a replica is named by /healthz, until it is well again."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from serve.models import version
from serve.stores.labels import LabelStore
from serve.stores.watched import Watched
from tests.serve.feed_server import shown


def test_models_of_another_bundle_are_named_by_health(run, bundle, models):
    """Whichever deployment serves another version than the pages say, /healthz is stale."""
    mine, theirs = version(bundle), "0123456789ab"
    served = {"Retriever": [mine, mine], "Ranker": [mine, theirs], "Scorer": []}

    async def versions():
        return served

    async def test(client, _):
        health = (await client.get("/healthz")).json()
        assert health["status"] == "stale"
        assert health["problem"] == f"Ranker serves bundle version {theirs}, FeedHandler {mine}"
        assert health["versions"] == served
        served["Ranker"] = [mine, mine]
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test, models=replace(models, versions=versions))


def test_what_holds_new_posts_up_is_named_by_health(run, models):
    """A replica of the models that cannot learn of posts makes /healthz say so, until it can."""
    held_up = {"Retriever": ["new posts wait: no space", "new posts wait: no space"], "Ranker": []}

    async def problems():
        return held_up

    async def test(client, _):
        health = (await client.get("/healthz")).json()
        said = (health["status"], health["problem"])
        assert said == ("behind", "Retriever: new posts wait: no space")
        held_up["Retriever"] = []
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["problem"]) == ("ok", None)

    run(test, models=replace(models, problems=problems))


def test_a_bad_file_of_labels_is_told_by_health(run, tmp_path):
    """The labels before hold, and /healthz says why."""
    path = tmp_path / "labels.jsonl"
    path.write_text('{"kind": "post", "id": 1, "label": "spam"}\n')
    labels = Watched(str(path), LabelStore.read, every_s=0.0)

    async def test(client, _):
        assert (await client.get("/healthz")).json()["status"] == "ok"
        path.write_text('{"kind": "post", "id": 1, "label": "sapm"}\n')
        while not labels.problem:  # a thread reads the file once somebody asks for labels
            await client.post("/v1/feed", json={"user_id": 1})
        health = (await client.get("/healthz")).json()
        assert health["status"] == "stale"
        assert "did you mean 'spam'?" in health["problem"]
        assert str(path) in health["problem"]

    run(test, folder=tmp_path / "log", labels=labels)


def test_the_worst_of_what_is_wrong_is_the_status(run, models, monkeypatch):
    """Stale before unlogged before behind, in whatever order they come; all of it is told."""
    held_up = {"Ranker": ["new posts wait"]}

    async def problems():
        return held_up

    def refuse(*_):
        raise OSError("no space")

    async def test(client, handler):
        async def status(*problems):
            health = (await client.get("/healthz")).json()
            assert all(problem in (health["problem"] or "") for problem in problems)
            return health["status"]

        assert await status("Ranker: new posts wait") == "behind"
        await client.post("/v1/feed", json={"user_id": 1})
        await shown(handler)
        with monkeypatch.context() as refusing:
            refusing.setattr(pq, "write_table", refuse)
            with pytest.raises(OSError, match="no space"):
                handler._event_log.flush()
        assert await status("new posts wait", "no space") == "unlogged"
        handler.problem = "elsewhere: not a bundle"
        assert await status("elsewhere", "new posts wait", "no space") == "stale"
        handler.problem = None
        handler._event_log.flush()
        held_up.clear()
        assert await status() == "ok"

    run(test, models=replace(models, problems=problems))
