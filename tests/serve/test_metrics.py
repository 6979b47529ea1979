"""Numbers on components and stores reach Prometheus as what they are."""

from __future__ import annotations

from collections import defaultdict

import pytest

from pipelines.feed.result import Trace
from serve import metrics
from serve.live.state import LiveState
from serve.stores.recent import RecentPosts
from serve.stores.recent.stats import COUNTED


def test_runs_of_components_are_told_together(monkeypatch: pytest.MonkeyPatch):
    """Each turn counts once, by its outcome, whenever it is told; what was skipped has no time."""
    told: dict[tuple[str, ...], list[float]] = defaultdict(list)

    class Told:
        def __init__(self, name: str, *_: object, **__: object) -> None:
            self._name = name.removeprefix("rayfeed_component_")

        def inc(self, value: float, tags: dict[str, str]) -> None:
            told[self._name, *tags.values()].append(value)

        observe = inc

    monkeypatch.setattr(metrics, "Counter", Told)
    monkeypatch.setattr(metrics, "Histogram", Told)
    counted = metrics.ComponentMetrics()
    ok, skipped = (
        Trace("filters", "age", 5, 3, 0.5, "ok"),
        Trace("scorers", "x", 7, 7, 0, "skipped"),
    )
    for _ in range(2):
        counted.observe("timeline", (ok, skipped))
    counted.tell()
    counted.observe("search", (ok,))
    counted.tell()
    counted.tell()
    assert told == {
        ("runs", "timeline", "filters", "age", "ok"): [2],
        ("runs", "timeline", "scorers", "x", "skipped"): [2],
        ("runs", "search", "filters", "age", "ok"): [1],
        ("posts_in", "timeline", "filters", "age"): [10],
        ("posts_in", "search", "filters", "age"): [5],
        ("posts_out", "timeline", "filters", "age"): [6],
        ("posts_out", "search", "filters", "age"): [3],
        ("ms", "timeline", "filters", "age"): [0.5, 0.5],
        ("ms", "search", "filters", "age"): [0.5],
    }


def test_sums_are_counters_and_the_rest_are_gauges(monkeypatch: pytest.MonkeyPatch):
    """A counter grows by what was added since it was told, or began anew; a gauge is what is."""
    counted: dict[str, float] = defaultdict(float)
    there: dict[str, float] = {}

    class Told:
        def __init__(self, name: str, description: str) -> None:
            assert description.endswith(".")
            self._name = name

        def inc(self, value: float) -> None:
            counted[self._name] += value

        def set(self, value: float) -> None:
            there[self._name] = value

    monkeypatch.setattr(metrics, "Counter", Told)
    monkeypatch.setattr(metrics, "Gauge", Told)
    recent = RecentPosts()
    live = LiveState(recent, lambda: 0)

    def stats() -> dict[str, float]:
        return {
            **{f"recent_{name}": value for name, value in recent.stats().items()},
            **{f"live_{name}": value for name, value in live.stats().items()},
            "contexts_hits": hits[-1],
            "contexts_bytes": 10 * hits[-1],
        }

    hits: list[int] = []
    told = metrics.StoreMetrics(stats)
    for num, num_hits in ((1, 5), (2, 7), (2, 1)):  # the last of another bundle
        hits.append(num_hits)
        recent.read(1, [2], (), num, 10)
        told.tell()
    assert counted["rayfeed_recent_requests"] == 3
    assert (counted["rayfeed_contexts_hits"], there["rayfeed_contexts_bytes"]) == (7 + 1, 10)
    assert counted["rayfeed_recent_posts_asked"] == 30
    assert there["rayfeed_live_deletions"] == there["rayfeed_recent_posts"] == 0
    assert not {f"rayfeed_recent_{name}" for name in COUNTED} & set(there)
    assert not any(name.endswith("let_go") for name in there)
