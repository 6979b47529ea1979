"""What diagnostics say in words names the numbers that it follows from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diagnostics.advice import MOST, advise
from pipelines.diagnostics.answers import followers_see, rank_correlation, small_are_throttled
from pipelines.diagnostics.not_measured import not_measured
from pipelines.diagnostics.rates import Needed
from pipelines.diagnostics.report import rank, report
from pipelines.diagnostics.tally import Reach, Surfaces
from pipelines.diagnostics.viewer import NEWEST, Viewer, Viewers, diagnose
from tests.pipelines.diagnostics.counts import BASE, account, tallies, tally

NEEDED = Needed()
NOWHERE = Surfaces(np.arange(1), *np.zeros((3, 1)))


def reported(counts, surfaces=NOWHERE):
    """Diagnostics of one post that is alone in its bundle."""
    ranks = rank(counts, BASE, NEEDED)
    return report(counts, surfaces, BASE, ranks, ranks, NEEDED)


@given(tallies())
def test_every_finding_tells_what_it_was_made_of(counts):
    """Value or reason, never both; formula, window and, where known, a sample of enough."""
    found = reported(counts)
    for one in (*found.scores, *found.dimensions, *found.parts):
        assert (one.value is None) == (one.unknown is not None)
        assert one.formula
        assert one.window
        if one.value is not None:
            assert one.inputs
            assert one.sample > 0
        if one in found.parts and one.unknown and "needed" in one.unknown:
            assert f"{one.sample:g} of the " in one.unknown
    for one in (*found.scores, *found.dimensions):
        assert set(one.over) <= set(one.inputs)


@given(tallies())
def test_advice_names_its_numbers(counts):
    """Few sentences, and each on a part holds that part's name and value."""
    found = reported(counts)
    said = advise(found)
    values = {part.name: part.value for part in found.parts if part.value is not None}
    on_parts = [text for text in said if "is typical" in text]
    assert len(said) >= 1
    assert len(on_parts) <= MOST
    for text in on_parts:
        (name,) = [name for name in values if f"({name} " in text]
        assert f"({name} {values[name]:.2f}" in text
    assert all(ord(letter) < 128 for text in said for letter in text)


def test_advice_finds_what_stands_out():
    """Many reports come first, and a post like the log over all gets no advice."""
    plain = tally(1e6, {"favorite": 3e4})
    (first, *_) = advise(reported(tally(1e6, {"favorite": 3e4, "report": 9e5})))
    assert first.startswith("More report than the log over all (900000 of 1000000 showings")
    assert not any(text.startswith("More ") for text in advise(reported(plain)))
    nothing = advise(reported(tally(0, {})))
    assert nothing[0] == "Nothing stands out from the log over all."
    assert nothing[1].startswith("Unknown, with the reason beside each: worth, ")


def test_rates_are_held_against_the_base_rate():
    """Above and below are said only of whole intervals."""
    found = reported(tally(1000, {"favorite": 200, "click": 30, "reply": 0}))
    beside = {one.action: one.beside for one in found.rates}
    assert beside["favorite"] == "above"
    assert beside["click"] == "cannot be told apart"
    assert beside["reply"] == "below"
    assert "dwell_time" not in beside


def test_surfaces_share_the_showings():
    """Shares of what was shown and done add up to one; empty surfaces are left out."""
    surfaces = Surfaces(np.arange(3), *np.array([[6.0, 0, 2], [1, 0, 3], [50, 40, 10]]))
    first, second = reported(tally(8, {}), surfaces).surfaces
    assert (first.surface, first.share, first.worth_share, first.base_share) == (0, 0.75, 0.25, 0.5)
    assert (second.surface, second.share, second.base_share) == (2, 0.25, 0.1)


def test_followers_see():
    """The share of followers reached, or why it is unknown."""
    assert followers_see(None, NEEDED).answer == "Unknown: the bundle has no follows."
    few = Reach(30, 5, 5, 10, 5, 100, 10)
    assert followers_see(few, NEEDED).answer.startswith("Unknown: 5 of the author's 30 followers")
    told = followers_see(Reach(100, 40, 10, 60, 12, 1000, 100), NEEDED)
    assert told.answer.startswith("10 of 40 followers who used the feed were shown a post")
    assert told.numbers["share_of_followers"] == 0.25
    assert told.numbers["share_of_showings"] == 0.2
    assert told.numbers["base_share_of_showings"] == 0.1


def test_small_accounts():
    """Showings per post are held against the middle of all, and against size."""
    one = tally(50, {}, account(num_posts=5, followers=2))
    told = small_are_throttled(one, one)
    assert (told.numbers["showings_per_post"], told.numbers["median"]) == (10, 10)
    assert "correlation" not in told.answer


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_rank_correlation_is_that_of_ranks(pairs):
    """Spearman's, by counting for each value those below and half of its equals."""
    x, y = (np.array([pair[at] for pair in pairs], float) for at in (0, 1))
    ranks = [[(v < u).sum() + (v == u).sum() / 2 for u in v] for v in (x, y)]
    got = rank_correlation(x, y)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)


def viewer(topics, authors, in_network=None):
    """A viewer of these events."""
    return Viewer(np.array(topics and authors), np.array(topics), in_network, 0.1, BASE.to_ms)


def others(num=30):
    """Viewers of all kinds."""
    spread = np.linspace(0, 0.5, num)
    return Viewers(np.arange(1.0, num + 1), spread, spread)


def test_a_narrow_viewer_is_told():
    """One topic only is an echo chamber, and so said with its chance."""
    known = diagnose(viewer([3] * 40, list(range(1, 41)), np.ones(40)), others(), NEEDED)
    found = {one.name: one.value for one in known.findings}
    assert found == {
        "history_length": 40,
        "same_topic": 1,
        "topic_entropy_bits": 0,
        "same_author": 0,
        "author_entropy_bits": pytest.approx(np.log2(40), abs=1e-12),
    }
    flood, author, echo = known.answers
    assert flood.answer.startswith(f"topic 3 is in {NEWEST} of the newest {NEWEST} events (100%")
    assert "not clearly more than the 100%" in flood.answer
    assert author.numbers["share"] == 1 / NEWEST
    assert echo.numbers == {
        "same_topic": 1,
        "percentile": 1,
        "in_network": 1,
        "base_in_network": 0.1,
    }
    assert any("narrow by topic" in text for text in known.recommendations)


def test_one_click_that_floods_the_feed_is_told():
    """A topic that fills the newest events, but not those before, is named."""
    known = diagnose(viewer([1, 2, 4, 5] * 10 + [3] * 20, [9] * 60), others(), NEEDED)
    assert "more than the 0% of the 40 before" in known.answers[0].answer
    assert "clearly" not in known.answers[0].answer


def test_an_unknown_viewer_is_told():
    """A short history is unknown, with the minimum."""
    known = diagnose(viewer([1], [1]), others(), NEEDED)
    assert known.findings[1].value is None
    assert "1 of the 20 events needed" in known.findings[1].unknown
    assert all(answer.answer.startswith("Unknown: ") for answer in known.answers)
    assert "hardly known (1 events" in known.recommendations[0]


@pytest.mark.parametrize("kind", ["post", "author", "viewer"])
def test_what_is_not_measured_has_a_reason(kind):
    """Signals that nobody can compute from a bundle are listed, not made up."""
    assert all(reason for reason in not_measured(kind).values())
    assert not_measured(kind)
