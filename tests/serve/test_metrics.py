"""Numbers on the stores reach Prometheus as what they are."""

from __future__ import annotations

from collections import defaultdict

import pytest

from serve import metrics
from serve.live.state import LiveState
from serve.stores.recent import RecentPosts
from serve.stores.recent.stats import COUNTED


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
