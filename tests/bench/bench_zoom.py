"""`python -m tests.bench.bench_zoom BUNDLE [--posts N]`: what each zoom finds, and what it reads.

For some posts of a bundle with prefix vectors, the ten found at each zoom: how many are on the
post's first topic, how many of the ten nearest by the encoder's own vectors are among them, and
how many numbers were compared. `auto` is chosen for each post.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from serve.deployments import Retriever, RetrieverSettings
from serve.models import Nearby
from serve.stores.prefix import PrefixSettings
from train.bundle import Bundle, load

FOUND = 10


def measure(bundle: Bundle, num_posts: int, settings: PrefixSettings) -> dict[str, dict[str, Any]]:
    """Zoom -> means over posts drawn from those that have a text and a topic."""
    facts = bundle.facts
    retriever = Retriever(bundle, RetrieverSettings(prefix=settings))
    content, topic = facts.content[:-1], facts.topic[:-1, 0]
    rows = np.flatnonzero(content.any(axis=1) & (topic > 0))
    rows = np.random.default_rng(0).permutation(rows)[:num_posts]
    nearest = []
    for row in rows:
        near = content @ content[row]
        near[row] = -np.inf
        nearest.append(facts.post_id[np.argsort(-near)[:FOUND]])
    results: dict[str, dict[str, Any]] = {}
    for zoom in (0.0, 0.25, 0.5, 0.75, 1.0, "auto"):
        asked = [Nearby(int(facts.post_id[row]), FOUND, zoom) for row in rows]
        found = retriever.near(asked)
        on_topic = [
            (topic[facts.post_row(near.post_id)] == topic[row]).mean()
            for near, row in zip(found, rows, strict=True)
        ]
        same = [
            len(np.intersect1d(near.post_id, right)) / FOUND
            for near, right in zip(found, nearest, strict=True)
        ]
        results[str(zoom)] = {
            "on_topic@10": float(np.mean(on_topic)),
            "encoder's nearest@10": float(np.mean(same)),
            "numbers_read": float(np.mean([near.dims_read for near in found])),
            "zoom": float(np.mean([near.zoom for near in found])),
        }
    return results


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_zoom")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--posts", type=int, default=500)
    parser.add_argument("--two-stages-from", type=int, default=20_000)
    args = parser.parse_args()
    settings = PrefixSettings(two_stages_from=args.two_stages_from)
    results = measure(load(args.bundle), args.posts, settings)
    names = list(next(iter(results.values())))
    print("zoom  ", *names, sep="  ")
    for zoom, row in results.items():
        print(f"{zoom:6}", *(f"{row[name]:{len(name)}.4g}" for name in names), sep="  ")


if __name__ == "__main__":
    main()
