"""Experiments of another feed.yaml are taken up while the feed is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import ConfigError
from pipelines.feed.pipeline import Pipeline
from pipelines.whole import save_text
from serve.feed_files import feed_file
from serve.stores.watched import Watched

FACTOR = "scorers.out_of_network.factor"
CAP = {"post_filters": {"author_cap": {}}}


def put(path: Path, factors: dict[str, float], **settings: Any) -> None:
    """A feed.yaml in its place, with arms of equal shares."""
    arms = {
        name: {"share": 1 / len(factors), "settings": {FACTOR: factor}}
        for name, factor in factors.items()
    }
    save_text(path, yaml.safe_dump({**CAP, **settings, "experiments": {"oon": {"arms": arms}}}))


def watched(path: Path) -> Watched[Pipeline]:
    """The feed of the file, which every page looks at."""
    file = feed_file(str(path))
    file._every_s = file._due_s = 0.0
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A feed.yaml with an experiment of one arm."""
    put(tmp_path / "feed.yaml", {"first": 0.5})
    return tmp_path / "feed.yaml"


def test_another_files_experiments_are_taken_up(run, path, tmp_path):
    """Pages go on, soon by the new arms, and an explanation names the arm; the log is one."""
    file = watched(path)

    async def test(client, _):
        async def arm() -> str:
            reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 3})
            assert reply.json()["degraded"] == []
            return reply.json()["arms"]["oon"]

        assert await arm() == "first"
        put(path, {"second": 0.25})
        while await arm() != "second":
            pass
        query = {"user_id": 1, "post_id": 1}
        told = (await client.get("/v1/explain", params=query)).json()
        assert told["arms"] == {"oon": "second"}

    run(test, folder=tmp_path / "log", feed=file)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"filters": {"age": None}}, "filters: only experiments change while a feed is served"),
        ({"filtres": {}}, "did you mean 'filters'"),
    ],
)
def test_any_other_change_is_told_and_not_taken(run, path, tmp_path, settings, said):
    """The arms before are served, and /healthz names the file and what cannot change."""
    file = watched(path)

    async def test(client, _):
        put(path, {"second": 0.25}, **settings)
        while not file.problem:
            reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 3})
            assert reply.json()["arms"] == {"oon": "first"}
        health = (await client.get("/healthz")).json()
        assert health["status"] == "stale"
        assert said in health["problem"]
        assert str(path) in health["problem"]
        put(path, {"third": 0.25})
        while reply.json()["arms"] != {"oon": "third"}:
            reply = await client.post("/v1/feed", json={"user_id": 1, "limit": 3})
        assert (await client.get("/healthz")).json()["status"] == "ok"

    run(test, folder=tmp_path / "log", feed=file)


def test_a_wrong_file_stops_the_start(path):
    """As feed.yaml always does."""
    put(path, {"first": -1.0})
    with pytest.raises(ConfigError, match=FACTOR):
        feed_file(str(path))
