"""What the bench of a page makes of py-spy's stacks."""

from __future__ import annotations

import pytest

from tests.bench.bench_page import parts_of


def test_each_look_counts_once_for_the_innermost_part():
    """Parts add up to a page's time; what names no part is `all else`, and who waits takes none."""
    rank = "Ranker.rank (serve/deployments.py:70);ContextCaches.predict (serve/context_caches.py:9)"
    seen = "\n".join(
        [
            f"main (x.py:1);{rank};Passes.predict (serve/passes.py:1);forward (torch/nn.py:2) 30",
            f"main (x.py:1);{rank};Passes.context (serve/passes.py:1) 20",
            "Run.filter (pipelines/feed/run.py:1);Age.keep (pipelines/feed/filters/age.py:1) 10",
            "Run.filter (pipelines/feed/run.py:1);dot (numpy/x.py:1) 15",
            "main (x.py:1) 25",
            "main (x.py:1);_worker (concurrent/futures/thread.py:1) 900",
        ]
    )
    assert parts_of(seen, cpu_ms=20.0) == pytest.approx(
        {
            "ranker: scoring pass": 6,
            "all else": 5,
            "ranker: contexts of viewers": 4,
            "engine: turns of components": 3,
            "filters": 2,
        }
    )
