"""What predicted actions are worth, against closed forms, to 1e-12."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.presets import PRESETS
from pipelines.feed.query_hydrators.blend import Blend
from pipelines.feed.scorers.action_weights import ActionWeights
from pipelines.feed.scorers.base_score import BaseScore
from pipelines.feed.scorers.value import Value
from pipelines.feed.services import Graph, Viewer
from pipelines.feed.stages import with_context
from pipelines.feed.table import Candidates
from pipelines.schema import ACTION_NAMES, action_weights
from tests.pipelines.feed.compose import serve
from tests.pipelines.feed.world import BLEND, Disturbed, World, broken

WORLD = World()
QUERY = with_context(WORLD.query(), {"query.blend": BLEND})
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
N, W = 367.2, 410.25  # negative and all weights of the 18 discrete actions
REPLY, VQV = ACTION_NAMES.index("reply"), ACTION_NAMES.index("vqv")


def base(values, **settings):
    """Base scores of values under the default weights."""
    return BaseScore(**settings).lifted(np.asarray(values, float), BLEND)


def blend_of(services=WORLD, **settings):
    """The weights in use."""
    return asyncio.run(Blend(**settings).hydrate(QUERY, services))["query.blend"]


@given(VALUES, st.booleans())
def test_base_score_keeps_the_order_and_is_never_negative(values, divide_by_all):
    """Non-decreasing, and what is bad on the whole never ranks above what is not."""
    lifted = base(values, divide_by_all=divide_by_all)
    assert (lifted >= 0).all()
    assert (np.diff(lifted[np.argsort(values, kind="stable")]) >= 0).all()
    negative = np.asarray(values) < 0
    assert (lifted[negative] <= 0.001).all()
    assert (lifted[~negative] >= 0.001).all()


def test_base_score_equals_its_closed_form():
    """V + 0.001 from 0 up, below it (v + N) / N · 0.001 and at least 0; NaN stays NaN."""
    values = [2.5, 0.0, -1.0, -N, -1000.0, np.nan]
    expected = [2.501, 0.001, (N - 1) / N * 0.001, 0.0, 0.0, np.nan]
    np.testing.assert_allclose(base(values), expected, rtol=0, atol=1e-12)


def test_base_score_is_continuous():
    """The step from just below zero to zero is as small as the step in value."""
    below, at = base([-1e-9, 0.0])
    assert 0 <= at - below <= 1e-9


def test_the_first_published_offset_divides_by_all_weights():
    """(v + N) / W · 0.001 below zero, which leaves a gap of (1 - N / W) · 0.001 there."""
    values = [2.5, 0.0, -1.0, -N, -1000.0]
    expected = [2.501, 0.001, (N - 1) / W * 0.001, 0.0, 0.0]
    lifted = base(values, divide_by_all=True)
    np.testing.assert_allclose(lifted, expected, rtol=0, atol=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_a_model_without_harm_still_keeps_its_order(values):
    """With no negative weight, as where similarity alone counts, [-1, 0) still is in order."""
    kind = replace(BLEND, weights=np.abs(BLEND.weights))
    lifted = BaseScore().lifted(np.array(values), kind)
    order = np.argsort(values, kind="stable")
    assert (np.diff(lifted[order]) >= 0).all()
    assert (lifted >= 0).all()


def test_presets_are_those_published():
    """Each names actions that there are; 2026 is the contract's own, 2023 as published."""
    for weights in PRESETS.values():
        assert weights.keys() <= set(ACTION_NAMES)
    assert list(PRESETS["x-algorithm-2026"].values()) == action_weights().tolist()
    older = blend_of(preset="heavy-ranker-2023")
    said = dict(zip(older.actions, older.weights.tolist(), strict=True))
    assert (said["reply"], said["repost"], said["vqv"], said["report"]) == (13.5, 1, 0.005, -369)
    assert said["share"] == said["dwell_time"] == 0


def test_without_settings_the_bundle_decides():
    """The weights in use are the bundle's own unless a preset or single weights are set."""
    own = replace(BLEND, own=BLEND.own * 2, weights=BLEND.own * 2)

    async def blend():
        return own

    services = Disturbed(WORLD, blend=blend)
    assert blend_of(services).weights.tolist() == own.own.tolist()
    changed = blend_of(services, weights={"reply": 7.0}).weights
    assert changed[REPLY] == 7.0
    assert np.delete(changed, REPLY).tolist() == np.delete(own.own, REPLY).tolist()
    both = blend_of(services, preset="x-algorithm-2026", weights={"reply": 7.0}).weights
    assert both.tolist() == np.where(np.arange(len(both)) == REPLY, 7.0, action_weights()).tolist()


def test_what_was_never_learned_weighs_nothing():
    """No preset gives weight to noise, and an action that only the log has keeps its own."""
    learned = BLEND.learned & (np.arange(len(ACTION_NAMES)) != REPLY)
    own = np.where(learned, BLEND.own, 0.0)
    mine = replace(
        BLEND,
        actions=(*BLEND.actions, "saved"),
        own=np.append(own, 0.7),
        weights=np.append(own, 0.7),
        learned=np.append(learned, True),
    )

    async def blend():
        return mine

    in_use = blend_of(Disturbed(WORLD, blend=blend), preset="heavy-ranker-2023").weights
    assert (in_use[REPLY], in_use[-1]) == (0.0, 0.7)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "x-algorithm-2025"}, "blend.preset: Input should be 'x-algorithm-2026'"),
        ({"weights": {"favourite": 1}}, "'favourite': no such action; did you mean 'favorite'?"),
    ],
)
def test_unknown_presets_and_actions_stop_start_up(settings, said):
    """A misspelt preset or action never waits for a request."""
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        Pipeline.build(FeedConfig(query_hydrators={"blend": settings}))


COLUMNS = {
    "author_id": [5, 5, 5, 6, 5],
    "duration_s": [10.0, 10.001, np.nan, 60.0, 60.0],
    "reply_to_post_id": [0, 1, 0, 0, 0],
    "repost_of_post_id": [0, 0, 1, 0, 0],
}
POSTS = Candidates({"post_id": np.arange(1, 6), **{n: np.array(v) for n, v in COLUMNS.items()}})


def weights_of(followers: int = 5, mutual=(5,), blend=BLEND, **settings):
    """Weights of the five posts above. float64 [5, A]."""
    nobody = np.empty(0, np.int64)
    graph = Graph(nobody, nobody, nobody, mutual=np.array(mutual, np.int64))
    parts = {"query.viewer": Viewer(followers, np.nan), "query.graph": graph, "query.blend": blend}
    scorer = ActionWeights(**settings)
    return asyncio.run(scorer.score(with_context(QUERY, parts), POSTS, WORLD))


@pytest.mark.parametrize(
    ("followers", "settings", "counts"),
    [
        (5, {}, "nynyy"),
        (-1, {}, "nynyy"),
        (9_999, {}, "nynyy"),
        (10_000, {}, "nnnnn"),
        (5, {"vqv_min_s": 60.0}, "nnnnn"),
        (5, {"vqv_min_s": 0.0}, "yyyyy"),
    ],
)
def test_quality_views_count_for_long_videos_and_small_accounts(followers, settings, counts):
    """Longer than 10 s and under 10,000 followers, if those are known; no other weight changes."""
    weights = weights_of(followers, mutual=(), **settings)["action_weight"]
    assert (weights[:, VQV] > 0).tolist() == [mark == "y" for mark in counts]
    others = np.delete(np.arange(len(ACTION_NAMES)), VQV)
    assert (weights[:, others] == BLEND.weights[others]).all()


def test_replies_between_friends_count_more():
    """15 more on originals of who follows back; not on their replies and reposts."""
    found = weights_of()
    assert found["mutual_follow"].tolist() == [True, False, False, False, True]
    assert found["action_weight"][:, REPLY].tolist() == [20.0, 5.0, 5.0, 5.0, 20.0]
    unlearned = replace(BLEND, learned=np.arange(len(ACTION_NAMES)) != REPLY)
    assert not weights_of(blend=unlearned)["mutual_follow"].any()


PROBABILITIES = st.lists(st.floats(0, 1, width=32), min_size=19 * 5, max_size=19 * 5)


@given(PROBABILITIES, st.sampled_from([None, *PRESETS]))
def test_value_is_the_sum_of_weights_times_predictions(p, preset):
    """With gates, boosts and presets alike: what the explanation says adds up to the value."""
    blend = blend_of(preset=preset)
    columns = weights_of(blend=blend)
    columns["p_action"] = np.array(p, np.float32).reshape(5, 19)
    query = with_context(QUERY, {"query.blend": blend})
    value = asyncio.run(Value().score(query, POSTS.with_columns(columns), WORLD))["value"]
    expected = (columns["p_action"].astype(float) * columns["action_weight"]).sum(axis=1)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10)


def test_a_preset_reorders_the_feed_and_is_explained():
    """The reason for a post names the weights that were in use, not the bundle's."""
    config = FeedConfig(query_hydrators={"blend": {"preset": "heavy-ranker-2023"}})
    pipeline = Pipeline.build(config)
    result, plain = (serve(p, WORLD.query(3), WORLD) for p in (pipeline, Pipeline.build()))
    assert result.page.post_id.tolist() != plain.page.post_id.tolist()
    assert "reply" in Explainer(ACTION_NAMES).reasons(result)[0]
    score = Explainer(ACTION_NAMES).explain(result, int(result.page.post_id[0])).score
    assert {t.action: t.weight for t in score.terms}["report"] == -369.0


@pytest.mark.parametrize("service", ["users", "graph"])
def test_unknown_standing_costs_no_ranking(service):
    """Without the viewer's account or graph gates and boosts are as for a stranger."""
    query = with_context(QUERY, {})
    weights = asyncio.run(ActionWeights().score(query, POSTS, WORLD))
    assert not weights["mutual_follow"].any()
    result = serve(Pipeline.build(), WORLD.query(), Disturbed(WORLD, **{service: broken}))
    if service == "users":
        assert "value" in result.scored
        assert len(result.page) == 10
