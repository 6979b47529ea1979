"""What each component of the feed did, and what the stores hold, as Prometheus metrics.

Ray collects them from all replicas; README, "Watch it", says where. Names begin with `ray_`.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.feed.result import Trace
from serve.stores.recent.stats import COUNTED

_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]  # upper bounds
_PLACE = ("feed", "stage", "component")
Place = tuple[str, str, str]
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


class _Telling(ABC):
    """Tells Ray numbers every few seconds, by a thread of its own; any thread may change them."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s

    @abstractmethod
    def tell(self) -> None:
        """Tell all numbers as they are now."""

    def start(self) -> Self:
        """Begin; it goes on for as long as the process."""
        threading.Thread(target=self._run, name=type(self).__name__, daemon=True).start()
        return self

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.tell()
            except Exception:  # the next one may work; no page depends on it
                _log.exception("%s: numbers were not told", type(self).__name__)
            pause.wait(self._every_s)


class ComponentMetrics(_Telling):
    """Counts and times of every component, told together: to tell each at once costs pages time."""

    def __init__(self, every_s: float = 1.0) -> None:
        super().__init__(every_s)
        self._runs = Counter(
            "rayfeed_component_runs",
            "Turns of a component: ok, partial, failed, timeout or skipped.",
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
        self._lock = threading.Lock()
        self._new: list[tuple[str, Iterable[Trace]]] = []  # runs that were not told yet

    def observe(self, feed: str, trace: Iterable[Trace]) -> None:
        """Count one run of the feed of that name, or its side effects."""
        with self._lock:
            self._new.append((feed, trace))

    def tell(self) -> None:
        """Tell all runs since the last time."""
        with self._lock:
            new, self._new = self._new, []
        runs, num_in, num_out = Tally[tuple[str, ...]](), Tally[Place](), Tally[Place]()
        for feed, trace in new:
            for entry in trace:
                place = feed, entry.stage, entry.name
                runs[*place, entry.outcome] += 1
                if entry.outcome != "skipped":
                    self._ms.observe(entry.ms, tags=dict(zip(_PLACE, place, strict=True)))
                    num_in[place] += entry.num_in
                    num_out[place] += entry.num_out
        for counter, names, tally in (
            (self._runs, (*_PLACE, "outcome"), runs),
            (self._in, _PLACE, num_in),
            (self._out, _PLACE, num_out),
        ):
            for values, num in tally.items():
                if num:
                    counter.inc(num, tags=dict(zip(names, values, strict=True)))


class StoreMetrics(_Telling):
    """Numbers on the stores in memory.

    Sums since the start are counters: `rayfeed_recent_<name>` for those of
    `serve.stores.recent.stats`, what is done with contexts, and what ends in `_let_go`. The rest
    are gauges. A sum that begins anew, as with another bundle, goes on from what was told.
    """

    def __init__(self, stats: Callable[[], Mapping[str, float]], every_s: float = 10.0) -> None:
        """Tell what `stats` says, from `start` on."""
        super().__init__(every_s)
        self._stats = stats
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told: dict[str, float] = {}  # of counters

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


def _about(name: str) -> str:
    store, what = name.split("_", 1)
    return f"{_ABOUT[store]}: {what.replace('_', ' ')}."
