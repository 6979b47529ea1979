"""Diagnostics over HTTP equal plain counts over the world's own events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import numpy as np
import pyarrow as pa
import pytest

from pipelines.diagnostics.rates import wilson
from pipelines.diagnostics.tally import LATELY_H, LONG_S, QUICK_S, WINDOW_H
from pipelines.encoding import HOUR_MS
from pipelines.feed.words import Words
from pipelines.schema import ACTIONS
from serve.deployments import local_models
from serve.stores.labels import LabelStore
from tests.conftest import UNKNOWN_USER
from tests.serve.feed_server import serving
from train.bundle import Bundle

WEIGHT = {action.name: action.weight for action in ACTIONS if not action.continuous}


@pytest.fixture(scope="module")
def models(bundle: Bundle):
    """The bundle's models in this process."""
    return local_models(bundle)


@pytest.fixture
def ask(bundle, models, tmp_path) -> Callable[..., list[httpx.Response]]:
    """Answers to GET requests, in order, from a fresh handler."""

    def ask(*paths: str, **settings) -> list[httpx.Response]:
        async def body() -> list[httpx.Response]:
            async with serving(bundle, models, tmp_path, **settings) as (client, _):
                return [await client.get(f"/v1/diagnostics/{path}") for path in paths]

        return asyncio.run(body())

    return ask


@pytest.fixture(scope="module")
def events(world) -> dict[str, np.ndarray]:
    """The world's log as arrays, with authors."""
    author = dict(
        zip(world.posts["post_id"].to_pylist(), world.posts["author_id"].to_pylist(), strict=True)
    )
    columns = {name: world.events[name].to_numpy() for name in world.events.schema.names}
    columns["author_id"] = np.array([author[one] for one in columns["post_id"]])
    return columns


def most_shown(events, name):
    """The id with the most showings."""
    ids, count = np.unique(events[name], return_counts=True)
    return int(ids[count.argmax()])


def findings(reply):
    """All findings of a reply by name."""
    return {one["name"]: one for kind in ("parts", "dimensions", "scores") for one in reply[kind]}


@pytest.mark.parametrize("kind", ["post", "author"])
def test_rates_are_counts_of_the_log(ask, events, kind):
    """Showings, acts, rates and intervals are those that a loop over the log finds."""
    one = most_shown(events, f"{kind}_id")
    (reply,) = ask(f"{kind}/{one}")
    assert reply.status_code == 200
    told = reply.json()
    mine = events[f"{kind}_id"] == one
    assert told["shown"] == mine.sum()
    assert len(told["rates"]) == sum(events[name].any() for name in WEIGHT)
    for rate in told["rates"]:
        done = int(events[rate["action"]][mine].sum())
        assert (rate["done"], rate["shown"]) == (done, mine.sum())
        assert rate["rate"] == pytest.approx(done / mine.sum(), abs=1e-12)
        ends = [float(end) for end in wilson(done, mine.sum())]
        assert [rate["low"], rate["high"]] == pytest.approx(ends, abs=1e-12)
        assert rate["base_rate"] == pytest.approx(events[rate["action"]].mean(), abs=1e-9)


@pytest.mark.parametrize("kind", ["post", "author"])
def test_parts_follow_from_the_log(ask, bundle, events, kind):
    """Worth, stays and momentum are their formulas over the log's and the profiles' counts."""
    one = most_shown(events, f"{kind}_id")
    parts = findings(ask(f"{kind}/{one}")[0].json())
    mine, weight = (
        events[f"{kind}_id"] == one,
        dict(zip(bundle.actions, bundle.weights, strict=True)),
    )
    value = typical = 0.0
    for name in WEIGHT:
        base = events[name].mean()
        if weight[name] > 0 and base > 0:
            value += weight[name] * (events[name][mine].sum() + 20 * base) / (mine.sum() + 20)
            typical += weight[name] * base
    inputs = parts["worth"]["inputs"]
    assert inputs["shown"] == mine.sum()
    assert inputs["favorite"] == events["favorite"][mine].sum()
    got = parts["worth"]["value"]
    assert kind == "post" or got is not None
    assert got is None or got == pytest.approx(value / (value + typical), rel=1e-12)

    held = profile_events(bundle, events)
    mine = held[f"{kind}_id"] == one
    stay = held["dwell_s"][mine]
    assert parts["quick_exits"]["inputs"]["left"] == (stay < QUICK_S).sum()
    assert parts["long_stays"]["inputs"]["stayed"] == (stay > LONG_S).sum()
    assert parts["long_stays"]["sample"] == (~np.isnan(stay)).sum()
    age_ms = events["shown_at_ms"].max() - held["at_ms"][mine]
    assert parts["momentum"]["inputs"]["lately"] == (age_ms < LATELY_H * HOUR_MS).sum()
    assert parts["momentum"]["inputs"]["window"] == (age_ms < WINDOW_H * HOUR_MS).sum()


def profile_events(bundle, events):
    """Dated events of the profiles, one viewer after the other."""
    lists = {"post_id": [], "author_id": [], "dwell_s": [], "at_ms": [], "surface": []}
    lists["user_id"] = []
    for row in bundle.profiles.to_pylist():
        dated = [at for at, at_ms in enumerate(row["history_at_ms"]) if at_ms > 0]
        for name in lists:
            of = row[f"history_{name}"] if name != "user_id" else [row["user_id"]] * 10_000
            lists[name] += [of[at] for at in dated]
    return {name: np.array(values) for name, values in lists.items()}


def test_an_author_stands_in_the_graph(ask, bundle, world, events):
    """Followers, reach and in-network share are counts over follows and profiles."""
    one = most_shown(events, "author_id")
    reply = ask(f"author/{one}")[0].json()
    edges = set(
        zip(
            world.follows["follower_id"].to_pylist(),
            world.follows["followee_id"].to_pylist(),
            strict=True,
        )
    )
    followers = {follower for follower, followee in edges if followee == one}
    held = profile_events(bundle, events)
    pairs = list(zip(held["user_id"].tolist(), held["author_id"].tolist(), strict=True))
    mine = [user for user, author in pairs if author == one]
    numbers = next(a["numbers"] for a in reply["answers"] if "followers" in a["complaint"])
    assert findings(reply)["followers"]["inputs"]["followers"] == len(followers)
    assert numbers["followers"] == len(followers)
    assert numbers["followers_in_log"] == len(followers & set(held["user_id"].tolist()))
    assert numbers["followers_reached"] == len(followers & set(mine))
    share = np.mean([user in followers for user in mine])
    assert numbers["share_of_showings"] == pytest.approx(share, abs=1e-12)
    base = np.mean([pair in edges for pair in pairs])
    assert numbers["base_share_of_showings"] == pytest.approx(base, abs=1e-12)
    shares = [surface["share"] for surface in reply["surfaces"]]
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert (
        reply["surfaces"][0]["shown"]
        == np.bincount(held["surface"][held["author_id"] == one]).max()
    )


def test_a_post_carries_its_author(ask, events, world):
    """The author's parts of a post are the author's own."""
    post = most_shown(events, "post_id")
    at = world.posts["post_id"].to_pylist().index(post)
    author = world.posts["author_id"].to_pylist()[at]
    replies = [reply.json() for reply in ask(f"post/{post}", f"author/{author}")]
    assert [reply["author_id"] for reply in replies] == [author, author]
    of_post, of_author = map(findings, replies)
    for name in ("followers", "centrality", "cited", "follows_won", "regularity", "coherence"):
        assert of_post[name] == of_author[name]
    assert of_post["network_authority"]["value"] == of_author["network_authority"]["value"]


def test_who_is_not_there_is_404(ask):
    """A post, author or viewer that the bundle does not have is not made up."""
    for kind, reply in zip(
        ("post", "author", "viewer"),
        ask("post/999999", "author/999999", f"viewer/{UNKNOWN_USER}"),
        strict=True,
    ):
        assert reply.status_code == 404
        assert reply.json()["detail"].startswith(f"{kind} ")
    assert [reply.status_code for reply in ask("post/0", "author/x")] == [422, 422]


def test_every_post_and_author_has_an_answer(ask, world):
    """Shown or not, each is answered: with values or with why they are unknown."""
    posts = world.posts["post_id"].to_pylist()[::40]
    authors = sorted(set(world.posts["author_id"].to_pylist()))[::5]
    replies = ask(*(f"post/{one}" for one in posts), *(f"author/{one}" for one in authors))
    known = set()
    for reply in replies:
        assert reply.status_code == 200
        for name, one in findings(reply.json()).items():
            assert (one["value"] is None) == bool(one["unknown"])
            known |= {name} if one["value"] is not None else set()
    assert {"worth", "followers", "centrality", "coherence", "regularity"} <= known
    assert {"overall_signal_score", "trust_score"} <= known


def test_labels_are_told(ask):
    """A label that holds is named beside the numbers, which it does not change."""
    labels = LabelStore(pa.Table.from_pylist([{"kind": "post", "id": 1, "label": "spam"}]))
    (plain,), (labelled,) = ask("post/1"), ask("post/1", labels=labels)
    assert labelled.json()["labels"] == ["spam"]
    assert plain.json() == {**labelled.json(), "labels": []}


def test_a_viewer_is_known_by_the_profile(ask, bundle):
    """Length and variety of the history are those of the profile's lists."""
    row = bundle.profiles.to_pylist()[0]
    (reply,) = ask(f"viewer/{row['user_id']}")
    assert reply.status_code == 200
    found = {one["name"]: one for one in reply.json()["findings"]}
    assert found["history_length"]["value"] == len(row["history_post_id"])
    authors = [author for author in row["history_author_id"] if author]
    pairs = [a == b for i, a in enumerate(authors) for b in authors[:i]]
    assert found["same_author"]["value"] == pytest.approx(np.mean(pairs), abs=1e-12)
    assert len(reply.json()["answers"]) == 3


def test_texts_are_told_apart_by_their_words():
    """Equal words in the same order have one number, others another, no words none."""
    texts = ["Rain, rain", "rain rain", "rain", "", None, "rain or", "or rain"]
    digest = Words.of(pa.array(texts)).digest()
    assert digest[0] == digest[1]
    assert digest[3] == digest[4] == 0
    assert len(set(digest.tolist())) == 5
