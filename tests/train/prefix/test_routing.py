"""Where a mix of coarse and fine queries is served better by prefixes than by Matryoshka's."""

from __future__ import annotations

from train.prefix.parts import routing


def workload(*adaptive: float) -> dict:
    """Of a condition with these accuracies at four shares, beside MRL's 0.5 at all of them."""
    return {
        "mrl": {"all": {"adaptive": [0.5] * 4, "fixed": {"64": [0.4] * 4, "256": [0.5] * 4}}},
        "own": {"all": {"adaptive": list(adaptive)}},
    }


def row(*adaptive: float) -> str:
    """Of the page's first table."""
    part = {"shares": [0.0, 0.25, 0.5, 1.0], "workload": workload(*adaptive)}
    lines = routing.section({**part, "confidence": {"own": {}}})
    return next(line for line in lines if line.startswith("| own |"))


def test_the_page_says_at_which_shares_a_condition_is_ahead():
    """One that loses at the last share alone is ahead at all others, not at none."""
    assert row(0.6, 0.6, 0.6, 0.4) == "| own | 0 to 0.5 |"
    assert row(0.6, 0.5, 0.6, 0.6) == "| own | 0, 0.5 to 1 |"
    assert row(0.5, 0.4, 0.4, 0.4) == "| own | – |"
