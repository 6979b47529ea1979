"""`python -m tests.bench.bench_memory`: bytes per post of all that holds posts, and ten million.

Each process of the feed, and each structure in one, is made from bundles of two sizes, in a process
of its own; the slope of its own memory (RssAnon: files that are mapped do not count) is what a post
costs. What a shard holds is counted per post that is its own. Indexes are flat; the graph that
large ones have is measured by itself. Results go to tests/bench/reports/memory_bench.json.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import torch

from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.deployments import Ranker, Retriever, Scorer
from serve.feed_handler import FeedHandler
from serve.index_shard import IndexShard
from serve.models import Models
from serve.stores.event_log import EventLog
from serve.stores.posts import PostStore
from serve.stores.prefix import PrefixVectors
from serve.stores.search import WordIndex
from serve.stores.threads import Replies
from serve.stores.vectors import topics_of
from serve.stores.vectors.faiss import FaissVectors
from serve.stores.vectors.sharded import Shards
from tests.bench.grown import WIDTH, base, flat, grown
from train import index as post_index
from train.bundle import Bundle, load
from train.bundle.part import Part
from train.prefix_index import PrefixIndex
from train.report import BENCH_REPORTS, add_out, header, write

NUM_SHARDS = 4  # of which one is measured
PLANNED = 10_000_000
PLANNED_SHARDS = 8
COARSE, FULL = 64, 256  # widths of prefix vectors
GiB = 2**30
HOLDS_ALL, OVER_SHARDS = "Retriever, with the index", "Retriever, over shards"
SHARD = "IndexShard, of its own posts"
FIELD = "Scorer, with a field"


def own_bytes() -> int:
    """Memory of this process that no file holds."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


def peak_bytes() -> int:
    """The most that this process ever held, mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _feed_handler(bundle: Bundle) -> FeedHandler:
    async def nothing(_: Any) -> Any:
        raise LookupError("no models here")

    log = EventLog(tempfile.mkdtemp(), "bench")
    handler = FeedHandler(Pipeline.build(FeedConfig()), log, clock="log")
    handler.use(bundle, Models(nothing, nothing, nothing))
    return handler


def _scorer(bundle: Bundle) -> Scorer:
    scorer = Scorer(bundle)
    scorer.fields.vectors(np.array([1]), "two_tower")  # read when first asked for
    return scorer


PROCESSES: dict[str, Callable[[Bundle], object]] = {
    "FeedHandler": _feed_handler,
    HOLDS_ALL: Retriever,
    OVER_SHARDS: lambda b: Retriever(b, None, Shards({}, asyncio.new_event_loop(), 1.0, 1.0)),
    SHARD: lambda b: IndexShard(b.of_part(Part(0, NUM_SHARDS))),
    "Ranker": Ranker,
    FIELD: _scorer,
}


def structures(bundle: Bundle) -> Iterator[tuple[str, object]]:
    """Each in turn, with what it is made from made before."""
    rng = np.random.default_rng(0)
    yield "table of posts, as read", bundle.posts
    ids, topics = bundle.posts["post_id"].to_numpy(), topics_of(bundle.posts)
    yield "facts, vectors of text in float32 among them", bundle.facts
    yield "post table: columns and words", PostStore(bundle.posts)
    words = WordIndex()
    words.add(bundle.posts)
    yield "words of texts, inverted", words
    replies = Replies()
    replies.add(bundle.posts)
    yield "replies", replies
    yield f"index of {WIDTH} float32, flat", (index := flat(rng, ids, WIDTH))
    yield "its ids by row, and topics", FaissVectors(index, topics)
    prefix = PrefixIndex(flat(rng, ids, COARSE), flat(rng, ids, FULL))
    head: Any = None  # asked only where posts are added
    yield f"prefix vectors of {COARSE} and {FULL} float32, flat", PrefixVectors.of(prefix, head)


def measure_here(what: str, path: Path) -> dict[str, float]:
    """Bytes that each part of `what` takes in this process, of the bundle at `path`."""
    bundle = load(path)
    before, found, kept = own_bytes(), {}, []
    if what == "structures":
        for name, one in structures(bundle):
            kept.append(one)
            now = own_bytes()
            found[name], before = float(now - before), now
        content = float(bundle.facts.content.nbytes)
        found["vectors of text alone"] = content
    else:
        kept.append(PROCESSES[what](bundle))
        found["whole"], found["code"] = float(own_bytes()), float(before)
        found["peak"] = float(peak_bytes())
    return found


def measure_graph(sizes: tuple[int, int]) -> float:
    """Bytes per post of the links of an HNSW index, beyond its vectors."""
    rng, found = np.random.default_rng(0), []
    for num in sizes:
        before = own_bytes()
        index: Any = faiss.IndexHNSWFlat(8, post_index._HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 8  # no matter for the links' size
        index.add(rng.random((num, 8), np.float32))
        found.append(own_bytes() - before - 4 * 8 * num)
        del index
    return (found[1] - found[0]) / (sizes[1] - sizes[0])


def in_a_process(what: str, path: Path) -> dict[str, float]:
    """As `measure_here`, in a new process."""
    command = [sys.executable, "-m", "tests.bench.bench_memory", "--measure", what, str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def slopes(sizes: tuple[int, int], folder: Path) -> dict[str, Any]:
    """What each process and structure holds of a bundle of either size, and per post."""
    first = base(folder)
    small, large = (grown(first, num, folder / f"grown-{num}") for num in sizes)
    per = 1 / (sizes[1] - sizes[0])
    processes: dict[str, Any] = {}
    for name in PROCESSES:
        few, many = in_a_process(name, small), in_a_process(name, large)
        share = NUM_SHARDS if name == SHARD else 1
        processes[name] = {
            "bytes_per_post": share * per * (many["whole"] - few["whole"]),
            "peak_bytes_per_post": share * per * (many["peak"] - few["peak"]),
            "without_posts_MiB": (few["whole"] * sizes[1] - many["whole"] * sizes[0]) * per / 2**20,
        }
    few, many = in_a_process("structures", small), in_a_process("structures", large)
    each = {name: {"bytes_per_post": per * (many[name] - few[name])} for name in many}
    return {"processes": processes, "structures": each}


def plan(found: dict[str, Any], graph_bytes: float) -> dict[str, Any]:
    """GiB of each process with `PLANNED` posts, the graph of large indexes added."""
    rows = {}
    for name, one in found["processes"].items():
        posts, bytes_per_post = PLANNED, one["bytes_per_post"]
        if name == SHARD:
            posts //= PLANNED_SHARDS
        if name in (SHARD, HOLDS_ALL, FIELD):
            bytes_per_post += graph_bytes
        held = one["without_posts_MiB"] * 2**20 + posts * bytes_per_post
        rows[name] = {
            "posts": posts,
            "bytes_per_post_with_graph": bytes_per_post,
            "GiB": held / GiB,
        }
    shards = PLANNED_SHARDS * rows[SHARD]["GiB"]
    rest = sum(rows[name]["GiB"] for name in rows if name not in (SHARD, HOLDS_ALL, OVER_SHARDS))
    rows["one replica of each, over shards"] = {"GiB": rest + shards + rows[OVER_SHARDS]["GiB"]}
    rows["one replica of each, without"] = {"GiB": rest + rows[HOLDS_ALL]["GiB"]}
    return rows


def report(sizes: tuple[int, int], folder: Path = BENCH_REPORTS) -> Path:
    """Measure, and write the record and its page, to `folder` if not the repository's."""
    about = {"load_before": os.getloadavg()[0]}
    graph_bytes = measure_graph((sizes[0] // 4, sizes[0] // 2))
    with tempfile.TemporaryDirectory() as scratch:
        found = slopes(sizes, Path(scratch))
    found["structures"]["graph of a large index"] = {"bytes_per_post": graph_bytes}
    results = {
        "posts_measured": list(sizes),
        "shards_measured": NUM_SHARDS,
        "shards_planned": PLANNED_SHARDS,
        **found,
        "ten_million_posts": plan(found, graph_bytes),
    }
    origin = header("made up: tests.bench.grown", seeds=[0])
    return write("memory_bench", {"header": origin | about, **results}, folder)


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_memory")
    parser.add_argument("--posts", type=int, nargs=2, default=(100_000, 1_000_000))
    add_out(parser)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "BUNDLE"), help="one process")
    args = parser.parse_args()
    if args.measure:
        post_index.EXACT_BELOW = 10**12  # a graph takes minutes to make; see `measure_graph`
        torch.set_num_threads(1)
        print(json.dumps(measure_here(args.measure[0], Path(args.measure[1]))))
    else:
        print(f"{report(tuple(args.posts), args.out)}: written")


if __name__ == "__main__":
    main()
