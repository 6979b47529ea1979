"""Labels, rules and verdicts: who is shown what, and what explanations say of it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.hydrators.visibility import Visibility
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.visibility import (
    LABELS,
    RECOMMENDED,
    SHARED,
    Labelled,
    Rule,
    Verdict,
    judge,
    mask_of,
)
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import Disturbed, World, broken

LABEL_SETS = st.lists(st.sampled_from(LABELS), max_size=4).map(tuple)
POSTS = st.lists(st.tuples(LABEL_SETS, LABEL_SETS, st.booleans(), st.booleans()), max_size=6)


def verdict_on(post=(), author=(), followed=False, recommended=False):
    """The verdict and the name of the rule."""
    labelled = Labelled(
        np.array([mask_of(post)]),
        np.array([mask_of(author)]),
        np.array([followed]),
        np.array([recommended]),
    )
    verdict, number = judge(labelled, SHARED, RECOMMENDED)
    rules = (None, *SHARED, *RECOMMENDED)
    return Verdict(verdict[0]).name, getattr(rules[number[0]], "name", None)


@pytest.mark.parametrize(
    ("facts", "verdict", "rule"),
    [
        ({}, "ALLOW", None),
        ({"post": ["spam"]}, "DROP", "post_spam"),
        ({"post": ["spam"], "followed": True}, "DROP", "post_spam"),
        ({"author": ["suspended"], "followed": True}, "DROP", "author_suspended"),
        ({"author": ["protected"]}, "DROP", "author_protected"),
        ({"author": ["protected"], "followed": True}, "ALLOW", None),
        ({"post": ["sensitive_media"]}, "INTERSTITIAL", "post_sensitive_media"),
        ({"post": ["sensitive_media"], "recommended": True}, "DROP", "post_sensitive_media"),
        ({"post": ["gore"]}, "ALLOW", None),
        ({"post": ["gore"], "recommended": True}, "DROP", "post_gore"),
        ({"author": ["compromised"]}, "ALLOW", None),
        ({"author": ["compromised"], "recommended": True}, "DROP", "author_compromised"),
        ({"post": ["disputed", "adult"]}, "INTERSTITIAL", "post_adult"),
        ({"post": ["disputed", "takedown", "spam"]}, "DROP", "post_takedown"),
    ],
)
def test_the_verdict_is_the_rules(facts, verdict, rule):
    """The first rule that drops decides, else the first that hides; strangers' posts have more."""
    assert verdict_on(**facts) == (verdict, rule)


@given(POSTS)
def test_posts_are_judged_one_by_one(posts):
    """Many posts at once get what each gets from the list of rules read top to bottom."""
    masks = [np.array([mask_of(p[side]) for p in posts], np.int64) for side in (0, 1)]
    flags = [np.array([p[side] for p in posts], np.bool_) for side in (2, 3)]
    verdicts, _ = judge(Labelled(*masks, *flags), SHARED, RECOMMENDED)
    for (post, author, followed, recommended), verdict in zip(posts, verdicts, strict=True):
        holding = [
            rule.verdict
            for rule in (*SHARED, *(RECOMMENDED if recommended else ()))
            if rule.label in (post if rule.of == "post" else author)
            and not (rule.spares_followed and followed)
        ]
        expected = "drop" if "drop" in holding else holding[0] if holding else "allow"
        assert Verdict(verdict).name.lower() == expected


def test_rules_name_labels_that_there_are():
    """Every label of a default rule exists, and no list has a rule twice."""
    for rules in (SHARED, RECOMMENDED):
        names = [rule.name for rule in rules]
        assert len(set(names)) == len(names)
        assert {rule.label for rule in rules} <= set(LABELS)


def test_an_unknown_label_in_a_rule_stops_start_up():
    """A rule in feed.yaml about a label that nothing has is refused with the near miss."""
    rules = {"shared": [{"of": "post", "label": "spamm"}]}
    with pytest.raises(ConfigError, match="'spamm': no such label; did you mean 'spam'"):
        Pipeline.build(FeedConfig(hydrators={"visibility": rules}))


@pytest.fixture
def labelled() -> World:
    """A world in which posts 1 to 3 of the first page show posts 291 to 293, which nobody ranks."""
    world = World()
    first = serve(Pipeline.build(), World().query(), World()).page.post_id[:3]
    for name, post_id in zip(("repost_of", "quote_of", "reply_to"), first, strict=True):
        column = np.where(world.post_id == post_id, 291, 0)
        world.facts[f"{name}_post_id"] = column
        world.facts[f"{name.removesuffix('_of')}_author_id"] = np.where(column, 99, 0)
    return world


PIPELINE = Pipeline.build(
    FeedConfig(filters={"out_of_network_reply_repost": None, "previously_seen": None})
)


@pytest.mark.parametrize("kind", ["post", "author"])
def test_reposts_quotes_and_replies_fall_with_what_they_show(labelled, kind):
    """A dropped post is not to be seen by way of others, and the explanation names both."""
    plain = serve(PIPELINE, labelled.query(), labelled).page.post_id.tolist()
    labelled.labelled[kind] = {291 if kind == "post" else 99: ("spam",)}
    result = serve(PIPELINE, labelled.query(), labelled)
    fallen = [
        post_id
        for name in ("repost_of", "quote_of", "reply_to")
        for post_id in labelled.post_id[labelled.facts[f"{name}_post_id"] > 0].tolist()
    ]
    assert set(fallen) & set(plain)
    assert not set(fallen) & set(result.page.post_id.tolist())
    assert set(fallen) <= set(result.dropped["filters.visibility"].tolist())
    explainer = Explainer(ACTION_NAMES)
    for post_id, how in zip(fallen, ("repeats", "quotes", "answers"), strict=True):
        explanation = explainer.explain(result, post_id)
        assert explanation.dropped_by == ("filters.visibility",)
        note = f"not to be shown: {kind}_spam of the post that it {how}"
        assert explanation.notes == (note,)
        assert explanation.summary.startswith(f"dropped by filters.visibility: {note}; ")


def test_what_is_hidden_is_served_and_says_why():
    """An interstitial does not move a post; the reason for it leads with the rule."""
    world = World()
    rules = {"shared": [{"of": "post", "label": "disputed", "verdict": "interstitial"}]}
    pipeline = Pipeline.build(FeedConfig(hydrators={"visibility": rules}))
    plain = serve(pipeline, world.query(), world)
    first = int(plain.page.post_id[0])
    world.labelled["post"] = {first: ("disputed",)}
    result = serve(pipeline, world.query(), world)
    assert result.page.post_id.tolist() == plain.page.post_id.tolist()
    assert result.page["visibility"].tolist() == [Verdict.INTERSTITIAL, *[Verdict.ALLOW] * 9]
    reason = Explainer(ACTION_NAMES).reasons(result)[0]
    assert reason.startswith("behind a notice: post_disputed; retrieved by ")


def test_a_followed_author_is_spared_in_quotes_too(labelled):
    """A protected author may be quoted to those who follow them, and to nobody else."""
    labelled.labelled["author"] = {99: ("protected",)}
    dropped = serve(PIPELINE, labelled.query(), labelled).dropped["filters.visibility"]
    assert len(dropped) == 3
    followed = int(asyncio.run(labelled.graph(1)).followed[0])
    for name in ("repost", "quote", "reply_to"):
        column = labelled.facts[f"{name}_author_id"]
        labelled.facts[f"{name}_author_id"] = np.where(column == 99, followed, column)
    labelled.labelled["author"] = {followed: ("protected",)}
    dropped = serve(PIPELINE, labelled.query(), labelled).dropped["filters.visibility"]
    assert len(dropped) == 0


def test_without_labels_nothing_is_shown():
    """If labels cannot be looked up the page is empty, and the explanation says by what."""
    world = World()
    result = serve(Pipeline.build(), world.query(), Disturbed(world, labels=broken))
    failed = ("hydrators.subscriptions", "hydrators.visibility")
    assert (len(result.page), result.degraded) == (0, failed)
    explanation = Explainer(ACTION_NAMES).explain(result, int(result.retrieved.post_id[0]))
    assert explanation.dropped_by == ("filters.ineligible_subscription", "filters.visibility")


def test_nothing_labelled_is_nothing_changed():
    """Where nobody has labels every post is allowed, and no note is written."""
    world = World()
    result = serve(Pipeline.build(), world.query(), world)
    assert not result.retrieved["visibility"].any()
    assert len(result.dropped["filters.visibility"]) == 0
    assert Visibility().describe(result.page, 0) is None


def test_rules_are_plain_data():
    """A rule says which label of what means what, and has a name made of that."""
    rule = Rule(of="author", label="spam", spares_followed=True)
    assert (rule.name, rule.verdict) == ("author_spam", "drop")
