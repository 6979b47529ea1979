"""`python -m tests.bench.bench_recent [--posts N]`: how fast recent posts are read and written.

A made-up two days of posts, few authors writing and being followed much more than most. Each read
asks for 200 posts of 1,000 followed authors and leaves out 1,000 posts; before each, more posts
come. The same reads are made the plain way (`recent_by_deques.py`), and must find the same. One
thread, so one core, but for the reads beside a thread that writes and trims all the time. Results
go to tests/bench/reports/recent_bench.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from serve.stores.recent.rows import NewPosts
from serve.stores.recent.store import RecentPosts, RecentSettings
from tests.bench.recent_by_deques import Deques
from train.report import BENCH_REPORTS, add_out, header, write

NOW_MS = 1_800_000_000_000
SPAN_MS = 170_000_000  # of the posts that are there at first: almost the retention
EVENT_MS = 20  # between posts that come later
BATCH = 1_000  # posts of a write while filling
ARRIVING = 10  # posts before each read
PER_AUTHOR = 20  # authors have so many posts on average
WARM_UP = 200  # reads that are not counted
SHARES = {"original": 0.55, "reply": 0.3, "repost": 0.15}
PARENT_WITHIN = 20_000  # posts: parents are one of the last so many


@dataclass
class World:
    """Posts in order of time, and who is followed how much.

    Attributes:
        posts: those of two days, then those that come during the reads.
        num_first: how many of them are there at first.
        popularity: chance of each author to be followed; author 1 first.
    """

    posts: NewPosts
    num_first: int
    popularity: NDArray[np.float64]
    random: np.random.Generator

    @classmethod
    def make(cls, num_first: int, num_later: int, seed: int = 0) -> World:
        """Draw a world. The chances to write and to be followed fall with an author's number."""
        random = np.random.default_rng(seed)
        num, num_authors = num_first + num_later, max(10, num_first // PER_AUTHOR)
        rank = np.arange(num_authors)
        activity, popularity = (rank + 20.0) ** -0.8, (rank + 20.0) ** -1.0
        author = 1 + random.choice(num_authors, num, p=activity / activity.sum())
        row = np.arange(num)
        kind = random.choice(len(SHARES), num, p=list(SHARES.values()))
        back = 1 + random.integers(PARENT_WITHIN, size=num)
        parent = np.where((kind > 0) & (back <= row), row - back, -1)
        root = np.where(parent >= 0, parent, row)
        for _ in range(30):  # up to what began each conversation, if it is that near
            root = np.where(parent[root] >= 0, parent[root], root)
        has_parent = parent >= 0
        first_ms = np.sort(random.integers(NOW_MS - SPAN_MS, NOW_MS, num_first))
        later_ms = NOW_MS + EVENT_MS * (1 + np.arange(num_later))
        posts = NewPosts(
            post_id=1000 + row,
            author_id=author,
            created_at_ms=np.concatenate([first_ms, later_ms]),
            parent_id=np.where(has_parent, 1000 + parent, 0),
            parent_author_id=np.where(has_parent, author[parent], 0),
            conversation_id=np.where(has_parent, 1000 + root, 0),
            is_repost=(kind == 2) & has_parent,
            has_video=random.random(num) < 0.2,
        )
        return cls(posts, num_first, popularity / popularity.sum(), random)

    def requests(self, num: int, num_followed: int) -> list[dict[str, Any]]:
        """Reads as keywords, without their time."""
        authors, num_excluded = 1 + np.arange(len(self.popularity)), min(1000, self.num_first // 2)
        recent = self.posts.post_id[max(0, self.num_first - 50_000) : self.num_first]
        num_followed = min(num_followed, len(authors) // 2)
        return [
            {
                "viewer_id": int(self.random.integers(1, len(authors))),
                "author_ids": np.sort(
                    self.random.choice(authors, num_followed, False, self.popularity)
                ),
                "excluded": np.sort(self.random.choice(recent, num_excluded, False)),
                "max_results": 200,
            }
            for _ in range(num)
        ]


def fill(store: RecentPosts, posts: NewPosts) -> dict[str, float]:
    """Write `posts` batch by batch; what it took."""
    before, started = _resident_bytes(), time.perf_counter()
    slowest = 0.0
    for at in range(0, len(posts), BATCH):
        begin = time.perf_counter()
        store.insert(posts.take(np.arange(at, min(at + BATCH, len(posts)))), NOW_MS)
        slowest = max(slowest, time.perf_counter() - begin)
    seconds = time.perf_counter() - started
    begin = time.perf_counter()
    store.trim(NOW_MS)
    trim_s = time.perf_counter() - begin
    return {
        "posts_per_s": len(posts) / seconds,
        "slowest_batch_ms": 1000 * slowest,
        "trim_ms": 1000 * trim_s,
        "bytes_per_post": store.nbytes / len(posts),
        "resident_bytes_per_post": (_resident_bytes() - before) / len(posts),
    }


class Timer:
    """Milliseconds that steps took: on the wall, and of this thread's own work.

    On a machine that others use the first includes waiting for a core, the second does not.
    """

    def __init__(self) -> None:
        self.wall_ms: list[float] = []
        self.cpu_ms: list[float] = []

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.cpu_ms.append(1000 * (time.thread_time() - self._cpu))
        self.wall_ms.append(1000 * (time.perf_counter() - self._wall))

    def percentiles(self, skip: int = 0) -> dict[str, float]:
        """How many steps, without the first few, and what share of them took how long."""
        kinds = {"ms": self.wall_ms[skip:], "cpu_ms": self.cpu_ms[skip:]}
        return {"number": len(kinds["ms"])} | {
            f"p{share}_{kind}": float(np.percentile(ms, share))
            for kind, ms in kinds.items()
            for share in (50, 95, 99)
        }


def timed_reads(
    store: RecentPosts, world: World, requests: list[dict[str, Any]], **how: Any
) -> tuple[dict[str, float], dict[str, float], list[NDArray]]:
    """What reads took, what the write before each took, and what was found."""
    reads, writes, found = Timer(), Timer(), []
    at, now_ms = world.num_first, NOW_MS
    for request in requests:
        rows = np.arange(at, min(at + ARRIVING, len(world.posts)))
        posts = world.posts.take(rows)
        at, now_ms = at + len(rows), now_ms + EVENT_MS * ARRIVING
        with writes:
            store.insert(posts, now_ms)
        with reads:
            hits = store.read(**request, now_ms=now_ms, **how)
        found.append(hits.post_id)
    return reads.percentiles(WARM_UP), writes.percentiles(WARM_UP), found


def timed_plainly(
    world: World, requests: list[dict[str, Any]], found: list[NDArray], settings: RecentSettings
) -> tuple[dict[str, float], float]:
    """What reads took the plain way, which must find the same, and bytes per post."""
    before = _resident_bytes()
    deques = Deques(settings)
    deques.insert(world.posts.take(np.arange(world.num_first)))
    gc.collect()
    gc.freeze()  # a million objects would slow down every collection
    bytes_per_post = (_resident_bytes() - before) / world.num_first
    reads = Timer()
    for number, (request, same) in enumerate(zip(requests, found, strict=True)):
        at = world.num_first + ARRIVING * number
        deques.insert(world.posts.take(np.arange(at, at + ARRIVING)))
        lists = {name: request[name].tolist() for name in ("author_ids", "excluded")}
        with reads:
            post_ids = deques.read(**request | lists)
        assert post_ids == same.tolist(), f"read {number} found other posts"
    gc.unfreeze()
    return reads.percentiles(), bytes_per_post


def timed_beside_writes(
    store: RecentPosts, world: World, requests: list[dict[str, Any]], now_ms: int
) -> dict[str, float]:
    """Reads while another thread writes `BATCH` posts, trims, and so on without a pause."""
    done, trims, reads = threading.Event(), 0, Timer()
    last = world.posts.take(np.arange(world.num_first - BATCH, world.num_first))

    def work() -> None:
        nonlocal trims
        while not done.is_set():
            trims += 1
            new_ids = last.post_id + trims * 10 * len(world.posts)
            store.insert(dataclasses.replace(last, post_id=new_ids), now_ms)
            store.trim(now_ms)

    thread = threading.Thread(target=work)
    thread.start()
    for request in requests:
        with reads:
            store.read(**request, now_ms=now_ms)
    done.set()
    thread.join()
    return reads.percentiles() | {"trims": trims}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(num_posts: int, num_reads: int, num_plain: int) -> dict[str, Any]:
    """All of it: part -> numbers."""
    num = num_reads + WARM_UP
    world = World.make(num_posts, num_later=ARRIVING * num)
    first = world.posts.take(np.arange(world.num_first))
    settings = RecentSettings()
    store = RecentPosts(settings)
    writes = fill(store, first)
    requests = world.requests(num, num_followed=1000)
    reads: dict[str, dict[str, float]] = {}
    reads["read"], reads["write of 10 posts"], found = timed_reads(store, world, requests)
    now_ms = NOW_MS + EVENT_MS * ARRIVING * num
    some = requests[: WARM_UP + num_reads // 4]
    reads["read of videos"] = timed_reads(store, world, some, videos=True)[0]
    for num_followed in (10, 200, 5000):
        asked = world.requests(len(some), num_followed)
        reads[f"read of {num_followed} authors"] = timed_reads(store, world, asked)[0]
    reads["read beside trims"] = timed_beside_writes(store, world, some, now_ms)
    asked, same = requests[:num_plain], found[:num_plain]
    reads["read of deques"], plain_bytes = timed_plainly(world, asked, same, settings)
    deques_over_columns = reads["read of deques"]["p50_cpu_ms"] / reads["read"]["p50_cpu_ms"]
    return {
        "posts": num_posts,
        "authors": len(world.popularity),
        "posts_of_busiest_author": int(np.bincount(first.author_id).max()),
        "posts_found_per_read": float(np.mean([len(ids) for ids in found])),
        "p50_cpu_of_deques_over_columns": deques_over_columns,
        "writes": {"columns": writes, "deques": {"resident_bytes_per_post": plain_bytes}},
        "reads": reads,
    }


def report(num_posts: int, num_reads: int, num_plain: int, folder: Path = BENCH_REPORTS) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's."""
    load_before = os.getloadavg()[0]
    results = measure(num_posts, num_reads, num_plain)
    for part in ("writes", "reads"):
        rows = results[part]
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table(part, *names, box=SIMPLE)
        for name, row in rows.items():
            table.add_row(name, *(f"{row[n]:,.4g}" if n in row else "" for n in names))
        Console().print(table)
    about = {"load_before": load_before, "seed_of_world": 0}
    origin = header("made up: tests.bench.bench_recent.World", seeds=[0])
    return write("recent_bench", {"header": origin | about, **results}, folder)


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_recent")
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=2_000)
    parser.add_argument("--plain-reads", type=int, default=100, help="of the deques")
    add_out(parser)
    args = parser.parse_args()
    page = report(args.posts, args.reads, args.plain_reads, args.out)
    print(f"{page}: written")


if __name__ == "__main__":
    main()
