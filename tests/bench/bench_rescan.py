"""`python -m tests.bench.bench_rescan --vectors FILE.npz [--posts N …]`: what a zoom rescans.

The feed's own search for posts like a post (serve/stores/prefix.py), ten by each zoom, with two
stages of so many candidates each and with whole vectors alone: recall@10 against comparing all, and
searches a second of this thread's own time. From train.index.EXACT_BELOW posts on both indexes are
graphs. Results go to tests/bench/reports/prefix_rescan.json.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from serve.models import Nearby
from serve.stores.prefix import PrefixPosts, PrefixSettings, PrefixVectors
from tests.bench.prefix_texts import Texts, Vectors
from train.models.prefix import SeparatedHead
from train.prefix.objectives import condition
from train.prefix.training import fit_head
from train.prefix_index import PrefixIndex, embed, split
from train.report import BENCH_REPORTS, header, write

ZOOMS = (0.0, 0.25, 0.5, 0.75, 1.0)
RESCANNED = (300, 600, 1_000, 2_000)
FOUND = 10
_FITTED = 8_000  # texts that the head learns from


def fitted(texts: Texts) -> SeparatedHead:
    """The head that a feed would have, of some of the texts."""
    rows = np.random.default_rng(0).permutation(len(texts.content))[:_FITTED]
    fit = condition("own", num_levels=1)
    head = fit_head(texts.content[rows], texts.label[rows][:, None], fit, 0).head
    assert isinstance(head, SeparatedHead)
    return head


def measure(head: SeparatedHead, content: Vectors, num_queries: int) -> dict[str, Any]:
    """Zoom -> way to search `content` [n, E] -> recall@10 and searches a second."""
    order = np.random.default_rng(0).permutation(len(content))
    ids = np.arange(1, len(order) + 1)
    index = PrefixIndex.build(ids, embed(head, content), head.config.part_sizes[0])
    coarse, fine = split(index.full.stored(), index.coarse_size)
    ways = {"whole vectors": PrefixSettings(two_stages_from=len(ids) + 1)}
    for num in RESCANNED:
        settings = PrefixSettings(two_stages_from=1, whole_from_zoom=2, rescanned=num)
        ways[f"{num} rescanned"] = settings
    posts = {
        way: PrefixPosts(PrefixVectors.of(index, head), np.zeros_like, s) for way, s in ways.items()
    }
    asked = order[-num_queries:]
    results: dict[str, Any] = {}
    for zoom in ZOOMS:
        a = np.float32(1 - zoom / 2)
        truth = []
        for row in asked:
            near = a * (coarse @ coarse[row]) + (1 - a) * (fine @ fine[row])
            near[row] = -np.inf
            truth.append(ids[np.argsort(-near)[:FOUND]])
        for way, one in posts.items():
            begin = time.thread_time()
            found = [one.near(Nearby(int(ids[row]), FOUND, zoom)).post_id for row in asked]
            seconds = time.thread_time() - begin
            pairs = zip(found, truth, strict=True)
            recall = np.mean([len(np.intersect1d(got, right)) / FOUND for got, right in pairs])
            of_zoom = results.setdefault(f"zoom {zoom}", {})
            of_zoom[way] = {"recall@10": float(recall), "searches a second": num_queries / seconds}
    return results


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_rescan")
    parser.add_argument("--vectors", type=Path, help="an .npz with content [n, E] and label [n]")
    parser.add_argument("--posts", type=int, nargs="+", help="more are mixtures of the texts")
    parser.add_argument("--queries", type=int, default=200)
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    made_up = Texts.made_up(np.random.default_rng(0))
    texts = Texts.of_file(args.vectors) if args.vectors else made_up
    about = {"load_before": os.getloadavg()[0], "texts": len(texts.content)}
    head, rng = fitted(texts), np.random.default_rng(0)
    results = {
        f"{num} posts": measure(head, texts.grown(num, rng), args.queries)
        for num in args.posts or [len(texts.content)]
    }
    page = write(
        "prefix_rescan",
        {"header": header(texts.origin, seeds=[0]) | about, **results},
        BENCH_REPORTS,
    )
    print(f"{page}: written")


if __name__ == "__main__":
    main()
