"""An explanation is the truth, in numbers that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.feed.discover import FeedConfig
from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.scorers.base_score import BaseScore
from pipelines.feed.stages import Scorer
from pipelines.schema import ACTION_NAMES
from tests.pipelines.feed.compose import compose, serve
from tests.pipelines.feed.world import BLEND, STRANGER, Disturbed, World, broken

WORLD = World()
PIPELINE = Pipeline.build(FeedConfig(sources={"popular": {"num_posts": 40}}))
EXPLAINER = Explainer(ACTION_NAMES)


@pytest.fixture(scope="module")
def result():
    """A run for viewer 3."""
    return serve(PIPELINE, WORLD.query(3), WORLD)


def test_scores_are_reproduced_from_their_parts(result):
    """Terms, offset and multipliers give back every final score to 1e-12."""
    for post_id in result.ranked.post_id.tolist():
        score = EXPLAINER.explain(result, post_id).score
        value = math.fsum(term.points for term in score.terms)
        base = BaseScore().lifted(np.array([value]), BLEND)[0]
        again = base * math.prod(score.multipliers.values())
        assert abs(again - score.score) <= 1e-12
        assert abs(value - score.value) <= 1e-12
        sizes = [abs(term.points) for term in score.terms]
        assert sizes == sorted(sizes, reverse=True)


def test_every_retrieved_post_has_one_fate(result):
    """Served, below or dropped: the outcome agrees with the page, the ranks and the filters."""
    fates = {"served": 0, "below": 0, "dropped": 0}
    for post_id in result.retrieved.post_id.tolist():
        explanation = EXPLAINER.explain(result, post_id)
        fates[explanation.outcome] += 1
        assert explanation.sources
        assert (explanation.outcome == "dropped") == bool(explanation.dropped_by)
        assert explanation.dropped_by == tuple(
            f"filters.{verdict.filter}" for verdict in explanation.filters if not verdict.kept
        )
        if explanation.place:
            assert result.page.post_id[explanation.place - 1] == post_id
        if explanation.rank:
            assert result.ranked.post_id[explanation.rank - 1] == post_id
    assert fates["served"] == len(result.page)
    assert sum(fates.values()) == len(result.retrieved)


def test_a_dropped_post_names_the_filter_and_what_it_saw(result):
    """Dropped for age: the filter, and the time of publication that it judged by."""
    post_id = int(result.dropped["filters.age"][0])
    explanation = EXPLAINER.explain(result, post_id)
    (age,) = [verdict for verdict in explanation.filters if verdict.filter == "age"]
    assert not age.kept
    assert age.looked_at == {"created_at_s": WORLD.created_at_s[post_id - 1]}
    assert explanation.summary.startswith("dropped by filters.age: retrieved by ")
    assert explanation.score is None


def test_a_post_beyond_the_selector_is_cut():
    """A post that passed all filters but was not among the best is scored and says so."""
    pipeline = Pipeline.build(FeedConfig(selectors={"top_k": {"num_posts": 5}}))
    result = serve(pipeline, WORLD.query(3), WORLD)
    chosen = result.ranked.post_id.tolist()
    post_id = next(i for i in result.scored.post_id.tolist() if i not in chosen)
    explanation = Explainer(ACTION_NAMES).explain(result, post_id)
    assert (explanation.outcome, explanation.rank) == ("cut", None)
    assert explanation.score.score <= result.ranked["score"].min()


def test_a_post_never_retrieved_is_compared_with_the_last_one_in():
    """No source brought it: its similarity is told beside that of the last post that got in."""
    config = FeedConfig(sources={"two_tower": {"num_posts": 50}, "popular": {"num_posts": 5}})
    pipeline = Pipeline.build(config)
    result = serve(pipeline, WORLD.query(3), WORLD)
    similarity = WORLD.similarity(3)
    missing = next(i for i in WORLD.post_id.tolist() if result.retrieved.row_of(i) is None)
    explanation = Explainer(ACTION_NAMES).explain(result, missing, similarity[missing - 1])
    assert explanation.outcome == "not_retrieved"
    last = {brought.source: brought for brought in explanation.last_in}["two_tower"]
    assert (last.rank, last.value) == (50, np.sort(similarity)[-50])
    assert explanation.similarity < last.value
    assert f"its similarity is {similarity[missing - 1]:.2f}" in explanation.summary


def test_an_empty_feed_names_the_failure():
    """When a failure left no posts, every post is explained by it."""
    result = serve(PIPELINE, WORLD.query(3), Disturbed(WORLD, graph=broken))
    explanation = EXPLAINER.explain(result, int(result.retrieved.post_id[0]))
    assert "filters.muted_author" in explanation.dropped_by
    verdicts = {verdict.filter: verdict.outcome for verdict in explanation.filters}
    assert verdicts["muted_author"] == "skipped"


def test_a_scorer_that_fails_closed_is_to_blame():
    """Posts that passed every filter and are not there name the scorer that emptied the feed."""
    body = {"__doc__": "Faulty.", "needs": (), "provides": {"x": np.float64}, "score": broken}
    cls = type("Faulty", (Scorer,), {**body, "fails": "closed"})
    pipeline = compose(dataclass(frozen=True, kw_only=True)(cls))
    result = serve(pipeline, WORLD.query(3), WORLD)
    kept = set(result.retrieved.post_id) - set(np.concatenate([*result.dropped.values()]))
    explanation = Explainer(ACTION_NAMES).explain(result, int(min(kept)))
    assert (explanation.outcome, explanation.dropped_by) == ("dropped", ("scorers.faulty",))


def test_reasons_follow_what_happened(result):
    """Sources best first, largest terms first, then adjustments; popularity where it decided."""
    row = int(np.argmax(result.page["author_position"] == 0))
    reason = EXPLAINER.reasons(result)[row]
    explanation = EXPLAINER.explain(result, int(result.page.post_id[row]))
    best, largest = explanation.sources[0], explanation.score.terms[0]
    assert reason.startswith(f"retrieved by {best.source} (#{best.rank}, {best.meaning})")
    assert f"; {largest.action} {largest.amount:.2g}×{largest.weight:g} + " in reason
    assert explanation.summary == f"place {row + 1} on the page: {reason}"
    cold = serve(PIPELINE, WORLD.query(STRANGER), WORLD)
    assert EXPLAINER.reasons(cold)[0].endswith("; ordered by popularity 0.99")


def test_an_authors_later_posts_say_so():
    """From the second on, a reason counts the author's posts and gives the factor."""
    few_authors = World(num_authors=4)
    result = serve(PIPELINE, few_authors.query(2, limit=6), few_authors)
    assert result.page["author_position"].max() == 2
    for row in range(len(result.page)):
        nth = result.page["author_position"][row] + 1
        said = {1: "", 2: "author's 2nd post ×0.62", 3: "author's 3rd post ×0.44"}[nth]
        assert said in EXPLAINER.reasons(result)[row]
