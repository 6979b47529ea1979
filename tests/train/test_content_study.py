"""The study of posts' text: what is held against what."""

from __future__ import annotations

import pytest

from train.studies.content import Content, _runs, _steps


def test_every_step_is_held_against_the_one_before():
    """Gains are differences within a seed, and are counted where they are above zero."""
    seeds = [
        {"recall@10": {"frozen": 0.1, "projected": 0.2, "states": 0.15}},
        {"recall@10": {"frozen": 0.1, "projected": 0.4, "states": 0.45}},
    ]
    found = _steps({"popular": 0.05}, seeds, "recall@10")

    assert found["values"]["popular"] == 0.05
    assert found["values"]["projected"] == pytest.approx(0.3)
    assert found["gain"]["projected"] == pytest.approx(0.2)
    assert found["gain"]["states"] == pytest.approx(0.0)
    assert found["gain"]["states_spread"] == pytest.approx(0.1 / 2**0.5)
    assert found["seeds_with_gain"] == {"projected": 2, "states": 1}


def test_only_the_last_step_reads_ids():
    """Steps two and three know posts by their text alone; the fourth has all, and the text."""
    runs = _runs("data", 384, Content())
    reads = {name: run.learning.model.features for name, run in runs.items()}

    assert [name for name, spec in reads.items() if spec.ids] == [
        "ids_and_text-towers",
        "ids_and_text-ranker",
    ]
    assert not any(spec.context or spec.rates for spec in reads.values() if not spec.ids)
    assert all(spec.content_size == 384 for spec in reads.values())
