"""Composites are weighted means of known parts, and move as their names say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diagnostics.composites import DIMENSIONS, KNOWN, SCORES, compose
from pipelines.diagnostics.measures import SPREAD
from pipelines.diagnostics.parts import PARTS, Measured, measure, place
from pipelines.diagnostics.rates import Needed
from pipelines.schema import ACTION_NAMES
from tests.pipelines.diagnostics.counts import BASE, account, tallies, tally

COMPOSITES = (*DIMENSIONS, *SCORES)
NEEDED = Needed()
NOBODY = {part.name: np.empty(0) for part in PARTS}
REGRETS = ("not_interested", "block_author", "mute_author", "report")


def composed(counts, others=NOBODY):
    """Value of every part and composite of one post."""
    parts = place(measure(counts, BASE, NEEDED), others, NEEDED)
    return {name: float(one.value[0]) for name, one in {**parts, **compose(parts)}.items()}


def more(counts, name, acts):
    """The same with so many more acts at the same showings, as far as there are showings."""
    at = ACTION_NAMES.index(name)
    done = counts.done.copy()
    done[0, at] = min(done[0, at] + acts, counts.shown[0])
    account = replace(counts.account, followed=done[:, ACTION_NAMES.index("follow_author")])
    return replace(counts, done=done, topical_done=done, account=account)


def no_lower(before, after, names):
    """What was unknown stays so, and what is known has not fallen."""
    for name in names:
        assert np.isnan(before[name]) == np.isnan(after[name])
        assert not after[name] < before[name] - 1e-12


def test_the_definitions_fit_together():
    """Terms name parts or earlier composites, and the weights of each add up to one."""
    known = {part.name for part in PARTS}
    assert len(known) == len(PARTS)
    for composite in COMPOSITES:
        names = [term.name for term in composite.terms]
        assert set(names) <= known
        assert set(composite.needs) <= set(names)
        assert sum(term.weight for term in composite.terms) == pytest.approx(1, abs=1e-12)
        assert all(name in composite.formula for name in names)
        known.add(composite.name)


@given(tallies())
def test_values_lie_between_their_ends(counts):
    """Parts and scores lie within their range and their interval, whatever was counted."""
    parts = place(measure(counts, BASE, NEEDED), NOBODY, NEEDED)
    tops = {composite.name: composite.top for composite in COMPOSITES}
    for name, one in {**parts, **compose(parts)}.items():
        if np.isnan(one.value[0]):
            assert np.isnan(one.low[0])
            assert np.isnan(one.high[0])
        else:
            assert -1e-9 <= one.low[0] <= one.value[0] + 1e-9
            assert one.value[0] - 1e-9 <= one.high[0] <= tops.get(name, 1.0) + 1e-9


@given(tallies(), st.sampled_from(["favorite", "click", *SPREAD, "follow_author"]), st.integers(0))
def test_more_good_acts_lower_no_quality(counts, name, acts):
    """More likes, replies, shares or follows at the same showings never lower engagement."""
    names = ("worth", "engagement_quality", "content_quality", "follows_won", "trust_score")
    names += ("spread", "viral_potential", "overall_signal_score")
    no_lower(composed(counts), composed(more(counts, name, acts)), names)


@given(tallies(), st.sampled_from(REGRETS), st.integers(0))
def test_more_regret_lowers_no_risk(counts, name, acts):
    """More reports or hides never lower spam_risk, and raise neither trust nor the whole."""
    before, after = composed(counts), composed(more(counts, name, acts))
    no_lower(before, after, ("regret", "negative_signals", "spam_risk"))
    no_lower(after, before, ("trust_score", "overall_signal_score"))


@given(tallies())
def test_what_is_known_depends_on_the_sample_alone(counts):
    """A part is unknown exactly below its minimum, whatever was done."""
    for one in measure(counts, BASE, NEEDED).values():
        if np.isfinite(one.minimum) and one.minimum > 0 and one.sample[0] < one.minimum:
            assert np.isnan(one.value[0])
    parts = measure(counts, BASE, NEEDED)
    for name in ("worth", "regret", "spread", "long_stays", "quick_exits", "momentum"):
        assert np.isnan(parts[name].value[0]) == (parts[name].sample[0] < parts[name].minimum)


@given(st.lists(st.none() | st.floats(0, 1), min_size=len(PARTS), max_size=len(PARTS)))
def test_a_composite_is_the_mean_of_its_known_terms(values):
    """Term by term, and unknown when a needed term or half of the weight is missing."""
    column = [np.array([np.nan if v is None else v]) for v in values]
    one = np.ones(1)
    parts = {
        part.name: Measured(v, v, v, one, 0.0, {}) for part, v in zip(PARTS, column, strict=True)
    }
    found = {name: float(one.value[0]) for name, one in compose(parts).items()}
    known = {name: float(part.value[0]) for name, part in parts.items()}
    for composite in COMPOSITES:
        total = weight = 0.0
        for term in composite.terms:
            if not np.isnan(known[term.name]):
                value = 1 - known[term.name] if term.inverted else known[term.name]
                total, weight = total + term.weight * value, weight + term.weight
        missing = any(np.isnan(known[name]) for name in composite.needs)
        want = composite.top * total / weight if weight >= KNOWN - 1e-9 else np.nan
        np.testing.assert_allclose(found[composite.name], np.nan if missing else want, atol=1e-12)
        known[composite.name] = found[composite.name]


def test_like_the_log_over_all_is_one_half():
    """A post with the log's own rates has one half in every part beside the base rate."""
    shown = 1e6
    done = dict(zip(ACTION_NAMES, BASE.rates * shown, strict=True))
    stays = {"stays": 1e5, "quick": 1e4, "long": 2e4, "window": 6e4, "lately": 2e4}
    found = composed(tally(shown, done, **stays))
    for part in PARTS:
        if part.scale == "base":
            assert found[part.name] == pytest.approx(0.5, abs=1e-12)
    assert found["overall_signal_score"] == pytest.approx(50, abs=1e-9)


def test_percentiles_need_others():
    """Among too few others nothing is placed; among enough, in the middle is one half."""
    counts = tally(0, {}, account(followers=7, num_posts=1, shown=0, followed=0))
    few = composed(counts, {**NOBODY, "followers": np.arange(3.0)})
    many = composed(counts, {**NOBODY, "followers": np.arange(15.0).repeat(2)})
    assert np.isnan(few["followers"])
    assert many["followers"] == 0.5
