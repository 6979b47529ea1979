"""What each component of the feed did, and what the stores hold, as Prometheus metrics.

Ray collects them from all replicas; README, "Watch it", says where. Names begin with `ray_`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.feed.result import Trace
from serve.stores.recent.stats import COUNTED

_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]  # upper bounds
_PLACE = ("feed", "stage", "component")
_COUNTERS = {
    *(f"recent_{name}" for name in COUNTED),
    *(f"contexts_{name}" for name in ("hits", "extensions", "misses", "evictions")),
    *(f"scores_{name}" for name in ("hits", "misses")),
    *("shards_questions", "shards_refusals"),
}
_ABOUT = {
    "recent": "Recent posts by author",
    "live": "What is kept beside the bundle",
    "contexts": "Contexts of viewers that the ranker keeps",
    "shards": "Shards of the index that the retriever asks",
    "scores": "Predictions that the ranker keeps",
}
_log = logging.getLogger("ray.serve")


class ComponentMetrics:
    """Counts and times of every component."""

    def __init__(self) -> None:
        self._runs = Counter(
            "rayfeed_component_runs",
            "Turns of a component: ok, failed, timeout or skipped.",
            tag_keys=(*_PLACE, "outcome"),
        )
        self._in = Counter(
            "rayfeed_component_posts_in", "Posts that a component was given.", tag_keys=_PLACE
        )
        self._out = Counter(
            "rayfeed_component_posts_out",
            "Posts that a component brought, kept or worked on.",
            tag_keys=_PLACE,
        )
        self._ms = Histogram(
            "rayfeed_component_ms",
            "Time that a component took, waiting included.",
            boundaries=_MS,
            tag_keys=_PLACE,
        )

    def observe(self, feed: str, trace: Iterable[Trace]) -> None:
        """Count one run of the feed of that name, or its side effects."""
        for entry in trace:
            place = {"feed": feed, "stage": entry.stage, "component": entry.name}
            self._runs.inc(tags={**place, "outcome": entry.outcome})
            if entry.outcome == "skipped":
                continue
            self._ms.observe(entry.ms, tags=place)
            if entry.num_in:
                self._in.inc(entry.num_in, tags=place)
            if entry.num_out:
                self._out.inc(entry.num_out, tags=place)


class StoreMetrics:
    """Numbers on the stores in memory, told every few seconds by a thread of their own.

    Sums since the start are counters: `rayfeed_recent_<name>` for those of
    `serve.stores.recent.stats`, what is done with contexts, and what ends in `_let_go`. The rest
    are gauges. A sum that begins anew, as with another bundle, goes on from what was told.
    """

    def __init__(self, stats: Callable[[], Mapping[str, float]], every_s: float = 10.0) -> None:
        """Tell what `stats` says, from `start` on."""
        self._stats, self._every_s = stats, every_s
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told: dict[str, float] = {}  # of counters

    def start(self) -> None:
        """Begin; it goes on for as long as the process."""
        threading.Thread(target=self._run, name="store-metrics", daemon=True).start()

    def tell(self) -> None:
        """Tell all numbers as they are now."""
        for name, value in self._stats().items():
            full = f"rayfeed_{name}"
            if name in _COUNTERS or name.endswith("_let_go"):
                if name not in self._counters:
                    self._counters[name] = Counter(full, _about(name))
                before = self._told.get(name, 0.0)
                if more := value - (before if value >= before else 0.0):
                    self._counters[name].inc(more)
                self._told[name] = value
            else:
                if name not in self._gauges:
                    self._gauges[name] = Gauge(full, _about(name))
                self._gauges[name].set(value)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.tell()
            except Exception:  # the next one may work; no page depends on it
                _log.exception("numbers on the stores were not told")
            pause.wait(self._every_s)


def _about(name: str) -> str:
    store, what = name.split("_", 1)
    return f"{_ABOUT[store]}: {what.replace('_', ' ')}."
