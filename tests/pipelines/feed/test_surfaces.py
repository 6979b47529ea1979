"""Four feeds over one engine: what each brings, drops and orders by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import configs
from configs import ConfigError
from pipelines.features import History
from pipelines.feed.discover import FeedConfig, discover
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult
from pipelines.feed.scorers.novelty import Novelty
from pipelines.feed.scorers.reply_quality import ReplyQuality
from pipelines.feed.scorers.text_match import TextMatch
from pipelines.feed.scorers.velocity import Velocity
from pipelines.feed.services import Hits
from pipelines.feed.stages import FeedQuery, Scorer, Source, with_context
from pipelines.feed.table import Candidates, Columns
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import STRANGER, Disturbed, World

ROOT = Path(__file__).parents[3]
PATHS = {
    "timeline": ROOT / "configs" / "feed.yaml",
    **{n: ROOT / "configs" / "feeds" / f"{n}.yaml" for n in ("explore", "search", "conversations")},
}
ASKED = {"timeline": {}, "explore": {}, "search": {"text": "post 7"}}
ASKED["conversations"] = {"focal_post_id": 2}


def surface(name: str) -> Pipeline:
    """The shipped feed of a surface."""
    return Pipeline.build(configs.load(PATHS[name], FeedConfig))


def talking() -> World:
    """A world where post n answers post n // 2."""
    world = World()
    world.thread(world.post_id // 2)
    return world


def world_of(name: str) -> World:
    """One that has what a surface shows: the timeline drops replies of strangers."""
    return talking() if name == "conversations" else World()


def page(name: str, world: World, user_id: int = 1, limit: int = 50, **asked: Any) -> FeedResult:
    """One page of a surface."""
    query = replace(world.query(user_id, limit), feed=name, **ASKED[name] | asked)
    return serve(surface(name), query, world)


def scored(scorer: Scorer, query: FeedQuery, world: World | Disturbed, **columns: Any) -> Columns:
    """What a scorer gives posts with these columns."""
    made = {name: np.array(values) for name, values in columns.items()}
    return asyncio.run(scorer.score(query, Candidates(made), world))


@pytest.mark.parametrize("name", PATHS)
def test_each_surface_serves(name):
    """Each shipped feed composes, fills a page without failures, and gives it in its order."""
    result = page(name, world_of(name), limit=10)

    assert result.degraded == ()
    assert len(result.page) == 10
    assert surface(name).requires == tuple(ASKED[name])
    sources = {c.name for c in result.components if c.stage == "sources"}
    assert name == "timeline" or all(n in sources for n in _named(name))
    if name in ("search", "conversations"):
        assert (np.diff(result.page["score"]) <= 0).all()


def _named(name: str) -> list[str]:
    return list(configs.load(PATHS[name], FeedConfig).sources)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("user_id", [3, STRANGER])
def test_no_surface_shows_who_is_blocked_or_muted(name, user_id):
    """Blocks and mutes hold everywhere, and so do labels."""
    world = world_of(name)
    world.labelled["post"] = dict.fromkeys(range(1, 300, 3), ("spam",))
    graph = asyncio.run(world.graph(user_id))
    shown = page(name, world, user_id).page

    assert len(shown)
    assert not np.isin(shown["author_id"], np.concatenate([graph.blocked, graph.muted])).any()
    assert not np.isin(shown.post_id, list(world.labelled["post"])).any()


def test_a_later_source_stays_out_of_a_closed_stage():
    """A source that a feed does not name runs in the timeline, and not in search."""

    @dataclass(frozen=True, kw_only=True)
    class Later(Source):
        """Brings whatever."""

        needs = ()
        fails = "open"

        async def find(self, query: FeedQuery, services: Any) -> Hits:
            return Hits(np.array([1]), np.array([1.0]))

    found = discover()
    found["sources"] = {**found["sources"], "later": Later}
    for name, runs in (("timeline", True), ("search", False), ("explore", False)):
        feed = Pipeline.build(configs.load(PATHS[name], FeedConfig), found)
        assert ("sources.later" in {c.key for c in feed.components}) == runs


def test_what_only_names_wrongly_is_said():
    """An unknown stage is named with its near miss; what is left out cannot be changed."""
    with pytest.raises(ConfigError, match=r"only.*no such stage; did you mean 'sources'"):
        configs.check({"only": ["source"]}, FeedConfig, "feed")
    arm = {"share": 1.0, "settings": {"sources.popular.num_posts": 5}}
    config = configs.load(PATHS["search"], FeedConfig)
    experiments = {"one": {"arms": {"a": arm}}}
    with pytest.raises(ConfigError, match=r"sources\.popular is switched off"):
        Pipeline.build(
            configs.check(config.model_dump() | {"experiments": experiments}, FeedConfig, "")
        )


def test_search_shows_what_was_seen_and_ones_own():
    """What matches is shown whether or not it was seen, whoever wrote it and however old it is."""
    world = World()
    world.created_at_s[:] -= 10**9
    said = " ".join(map(str, range(1, 301)))
    found = page("search", world, user_id=3, limit=100, text=f"post {said}")
    seen = asyncio.run(world.seen(3))
    dropped = {key for key, ids in found.dropped.items() if len(ids)}

    assert dropped == {"filters.muted_author"}
    assert np.isin(found.scored.post_id, seen).any()
    assert (found.scored["author_id"] == 3).any()


def test_search_finds_nothing_for_nothing():
    """A text that no post has anything in common with gives an empty page, not an error."""

    async def none(*_):
        return Hits(np.empty(0, np.int64), np.empty(0))

    result = serve(
        surface("search"), replace(World().query(), text="x"), Disturbed(World(), search=none)
    )
    assert len(result.page) == 0
    assert result.degraded == ()


def test_a_post_named_comes_first_in_search():
    """The best match in words and meaning leads, though others are liked more."""
    result = page("search", World(), user_id=2, limit=5, text="post 100")
    assert result.page.post_id[0] == 100


def test_explore_is_by_others_and_by_many():
    """No post is by an author whom the viewer follows, and none by the same author as another."""
    world = talking()
    world.thread(np.zeros(300, np.int64))
    result = page("explore", world, user_id=3, limit=20)
    graph = asyncio.run(world.graph(3))

    assert len(result.page) == 20
    assert not np.isin(result.page["author_id"], graph.followed).any()
    assert len(np.unique(result.page["author_id"])) == 20
    assert (result.page["rising_rank"] > 0).any()


def test_a_conversation_is_all_below_its_post():
    """Replies at any depth are ranked, strangers' and the author's own, several of one author."""
    world = talking()
    result = page("conversations", world, user_id=3, limit=100, focal_post_id=2)
    below = {n for n in world.post_id.tolist() if _leads_to(n, 2)}
    dropped = set(np.concatenate(list(result.dropped.values())).tolist())

    assert set(result.retrieved.post_id.tolist()) == below
    assert set(result.scored.post_id.tolist()) == below - dropped
    assert {key for key, ids in result.dropped.items() if len(ids)} == {"filters.muted_author"}
    assert len(np.unique(result.page["author_id"])) < len(result.page)
    assert len(page("conversations", World()).page) == 0  # where nobody answers


def _leads_to(post_id: int, focal: int) -> bool:
    while post_id > focal:
        post_id //= 2
        if post_id == focal:
            return True
    return False


def test_a_text_match_by_hand():
    """The mean of both parts; in words alone where the meaning is unknown; below 0 counts 0."""

    async def match(*_):
        return {
            "words": np.array([0.5, 0.5, 0.2, 0.0]),
            "meaning": np.array([0.9, np.nan, -0.4, np.nan]),
        }

    world, scorer = Disturbed(World(), match=match), TextMatch(worth=10, words=1, meaning=3)
    query = replace(World().query(), text="post 1")
    found = scored(scorer, query, world, post_id=[1, 2, 3, 4])
    worth = found["text_match_worth"]

    np.testing.assert_allclose(worth, [10 * (0.5 + 3 * 0.9) / 4, 5, 10 * 0.2 / 4, 0])
    posts = Candidates({"post_id": np.array([1, 2, 3, 4])}).with_columns(found)
    assert scorer.describe(posts, 0) == "matches the search (words 0.50, meaning 0.90) +8.00"
    assert scorer.describe(posts, 1) == "matches the search (words 0.50) +5.00"


def test_a_reply_quality_by_hand():
    """Post 1 by author 8 is answered by 11 and 12, 11 by 13 of author 8, that by 14."""
    world, scorer = World(), ReplyQuality(worth=2, decay=0.5, engagement=1, author=3)
    query = replace(world.query(), focal_post_id=1)
    assert world.author_id[0] == 8
    columns = {
        "post_id": [14, 11, 12, 13],
        "author_id": [5, 5, 6, 8],
        "reply_to_post_id": [13, 1, 1, 11],
        "replies_value": [1 / 3, 1.0, 1.0, 1 / 2],
        "num_likes": [4, 1, 7, -1],
        "num_replies": [0, 1, 0, 1],
        "num_reposts": [0, 0, -1, 0],
    }
    found = scored(scorer, query, world, **columns)
    branch = {14: 4.0, 13: 1 + 0.5 * 4, 12: 7.0}
    branch[11] = 2 + 0.5 * branch[13]
    answered = {14: 0, 11: 1, 12: 0, 13: 1}  # 13 is the author's, and answers 11
    depth = {14: 3, 11: 1, 12: 1, 13: 2}
    expected = [
        2 * 0.5 ** (depth[n] - 1) * (1 + np.log1p(branch[n]) + 3 * answered[n])
        for n in columns["post_id"]
    ]

    np.testing.assert_allclose(found["reply_quality_worth"], expected)
    assert found["author_answered"].tolist() == [False, True, False, True]
    posts = Candidates({n: np.array(v) for n, v in columns.items()}).with_columns(found)
    assert scorer.describe(posts, 1) == f"reply, the author took part +{expected[1]:.2f}"
    assert scorer.describe(posts, 0) == f"reply +{expected[0]:.2f}"


@given(likes=st.lists(st.integers(0, 50), min_size=6, max_size=6), more=st.integers(1, 9))
def test_likes_below_raise_the_branch_above(likes, more):
    """A like more on a reply raises it and all that it answers, and nothing else."""
    ids, up = np.arange(2, 8), np.arange(2, 8) // 2
    depth = np.floor(np.log2(ids))
    query = replace(World().query(), focal_post_id=1)
    zero = np.zeros(6, np.int64)
    columns = {"post_id": ids, "author_id": ids * 0 + 39, "reply_to_post_id": up}
    columns |= {"replies_value": 1 / depth, "num_replies": zero, "num_reposts": zero}

    def worth(num_likes: list[int]) -> np.ndarray:
        found = scored(ReplyQuality(), query, World(), **columns, num_likes=num_likes)
        return found["reply_quality_worth"]

    raised = worth([*likes[:-1], likes[-1] + more]) > worth(likes)
    assert raised.tolist() == [False, True, False, False, False, True]  # 7 answers 3


def test_velocity_is_a_share_of_the_fastest():
    """The fastest gets the whole boost, what does not rise none."""
    query = World().query()
    found = scored(
        Velocity(boost=2.0), query, World(), post_id=[1, 2, 3], rising_value=[0.1, np.nan, 0.4]
    )
    np.testing.assert_allclose(found["velocity_multiplier"], [1.5, 1, 3])
    alone = scored(Velocity(boost=2.0), query, World(), post_id=[1, 2])
    assert alone["velocity_multiplier"].tolist() == [1, 1]
    assert not Velocity().enabled(query)


def test_novelty_halves_with_each_post_by_an_author():
    """Authors never met get the whole boost, unknown ones none."""
    past = replace(History.empty(1), author_id=np.array([4, 4, 5, 0]))
    query = with_context(World().query(), {"query.history": past})
    found = scored(Novelty(boost=1.0), query, World(), post_id=[1, 2, 3, 6], author_id=[4, 5, 6, 0])
    np.testing.assert_allclose(found["novelty_multiplier"], [1.25, 1.5, 2, 1])
    assert not Novelty().enabled(query)
    new = with_context(World().query(), {"query.history": None})
    assert not Novelty(boost=1.0).enabled(new)


def test_worth_is_added_to_the_value():
    """The base score is the lifted value, or the popularity, plus every `*_worth`."""
    world = World()
    both = page("search", world, user_id=2, text="post 9").scored
    plain = serve(Pipeline.build(), world.query(2, 50), world).scored
    known = dict(zip(plain.post_id.tolist(), plain["base_score"].tolist(), strict=True))
    rows = [row for row, post_id in enumerate(both.post_id.tolist()) if post_id in known]
    added = [both["base_score"][row] - known[int(both.post_id[row])] for row in rows]

    assert rows
    np.testing.assert_allclose(added, both["text_match_worth"][rows])
    stranger = page("search", world, user_id=STRANGER).scored
    np.testing.assert_allclose(
        stranger["base_score"], stranger["popularity"] + stranger["text_match_worth"]
    )
