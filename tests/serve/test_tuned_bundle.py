"""A tuned bundle's settings are the timeline's, where feed.yaml says nothing; over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from configs import ConfigError, check
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.variants import open_to
from tests.serve.feed_server import FEED, serving
from train.bundle import Bundle, BundleError, load
from train.bundle.versions import with_blend
from train.models.fractal.blend import InterferenceBlend

USER = 1
CAP = {"post_filters.author_cap.max_posts": 1}


def feed_of(**settings: Any) -> FeedConfig:
    """The project's feed with some stages' settings changed."""
    return check(FEED.model_dump() | settings, FeedConfig, place="feed")


def pages(bundles: list[Bundle], models: Any, folder: Path, feed: FeedConfig) -> list[list[dict]]:
    """Posts of one viewer's page from one bundle after another, on one server."""

    async def ask() -> list[list[dict]]:
        async with serving(bundles[0], models, folder, feed=feed) as (client, handler):
            replies = []
            for bundle in bundles:
                handler.use(bundle, models)
                query = {"user_id": USER, "limit": 20}
                replies.append((await client.post("/v1/feed", json=query)).json()["posts"])
            return replies

    return asyncio.run(ask())


def most_by_one(page: list[dict]) -> int:
    """Posts of the author with the most."""
    authors = [post["author_id"] for post in page]
    return max(authors.count(author) for author in authors)


def test_the_served_timeline_takes_a_bundles_settings(bundle, models, tmp_path):
    """A bundle that was tuned to one post an author shows one; with the next bundle it ends."""
    with_blend(bundle.folder, tmp_path / "tuned", feed=CAP, tuned={"study": "abc"})
    tuned = load(tmp_path / "tuned")
    crowded = feed_of(
        scorers={**FEED.scorers, "author_diversity": None}, post_filters={"author_cap": {}}
    )

    once, again = pages([tuned, bundle], models, tmp_path / "0", crowded)

    assert tuned.card["tuned"] == {"study": "abc"}
    assert most_by_one(once) == 1
    assert most_by_one(again) > 1


def test_feed_yaml_goes_before_a_bundle(bundle, models, tmp_path):
    """What the file sets, and what it leaves out of the feed, is no bundle's to say."""
    with_blend(bundle.folder, tmp_path / "tuned", feed=CAP)
    cap = {"author_cap": {"max_posts": 3}}
    given = feed_of(scorers={**FEED.scorers, "author_diversity": None}, post_filters=cap)

    (page,) = pages([load(tmp_path / "tuned")], models, tmp_path / "0", given)

    assert most_by_one(page) > 1
    off = feed_of(post_filters={"author_cap": None})
    only = feed_of(only=("post_filters",), post_filters={})
    assert open_to(given, CAP) == open_to(off, CAP) == open_to(only, CAP) == {}
    assert open_to(feed_of(), CAP) == CAP


def test_a_setting_that_there_is_not_keeps_the_feed(bundle):
    """A bundle tuned to a component of another code is refused; what is served stays."""
    feed = Pipeline.build(feed_of())
    before = feed.stages

    with pytest.raises(ConfigError, match=r"scorers.dp: no such component; did you mean 'dpp'"):
        feed.adopt({"scorers.dp.theta": 0.5})
    assert feed.stages is before


def test_versions_change_what_is_given(bundle, tmp_path):
    """Weights, field and feed of a new version; all others, the models too, stay the first's."""
    field = InterferenceBlend(alpha=2.0)
    with_blend(
        bundle.folder, tmp_path / "one", weights={"favorite": 3.0}, feed={"scorers.dpp.theta": 0.5}
    )
    with_blend(tmp_path / "one", tmp_path / "two", interference=field, feed=CAP)
    one, two = load(tmp_path / "one"), load(tmp_path / "two")

    favorite = bundle.actions.index("favorite")
    assert two.weights[favorite] == one.weights[favorite] == 3.0 != bundle.weights[favorite]
    assert (two.weights[:favorite] == bundle.weights[:favorite]).all()
    assert two.interference == field != one.interference
    assert two.feed_settings == {"scorers.dpp.theta": 0.5, **CAP}
    assert two.card["weights_sha256"] == bundle.card["weights_sha256"]
    with pytest.raises(BundleError, match="'favourite': no such action; did you mean 'favorite'"):
        with_blend(bundle.folder, tmp_path / "three", weights={"favourite": 1.0})
