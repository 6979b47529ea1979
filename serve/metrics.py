"""What each component of the feed did, as Prometheus metrics.

Ray collects them from all replicas; README, "Watch it", says where. Names begin with `ray_`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray.util.metrics import Counter, Histogram

from pipelines.feed.result import Trace

_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]  # upper bounds
_PLACE = ("feed", "stage", "component")


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
