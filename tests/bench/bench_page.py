"""`python -m tests.bench.bench_page [--bundle DIR] [--pages N]`: what a page's CPU time goes to.

One process makes pages one after the other, as a fused replica does but without HTTP and Ray: anew
out of 500 candidates each, and as usual, from what the viewer's last page left. py-spy looks at its
stacks 500 times a second without stopping it; each look counts for the innermost part of a page
that it finds, so that parts add up. Beside the scoring pass stands what its products of matrices
would take at the rate that the core gives them just now: what is above that remains to be won.
Results go to tests/bench/reports/page_bench.json, with a page.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import yaml

from configs import load as load_config
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.api_feed import FeedRequest
from serve.deployments import Ranker, Scorer, models_of
from serve.feed_handler import FeedHandler
from serve.retriever import Retriever
from serve.stores.event_log import EventLog
from tests.bench.bench_load import CANDIDATES, EVERY_PAGE_ANEW, WARM_UP
from tests.bench.bench_ranker import Rounds, flops
from tests.bench.load import LIMIT, zipf
from tests.train.models.ranker_worlds import candidates, viewers
from train.bundle import Bundle, load
from train.models.ranker import Ranker as Model
from train.report import add_out, header, write

MODES = ("anew", "usual")
_PER_S, _ATTACHED_S = 500, 2.0  # looks at the stacks; until py-spy looks
_ROUNDS = 50
_VIEWERS = 1000
# Innermost frames of threads that wait.
_IDLE = ("EpollSelector.select (", "_worker (concurrent/futures/thread.py", "Condition.wait (")
# Parts of a page, by what a frame of py-spy says: the innermost frame that names one decides.
PARTS = {
    "Ranker.inputs (": "ranker: its inputs",
    "Passes.context (": "ranker: contexts of viewers",
    "ContextCaches.": "ranker: contexts of viewers",
    "Passes.predict (": "ranker: scoring pass",
    "Ranker.rank (": "ranker: else",
    "Retriever.search (": "retriever",
    "Scorer.value (": "scorer",
    "posts_of (serve/pages.py": "answer: posts, reasons",
    "model_dump_json (": "answer: JSON",
    **{
        f"(pipelines/feed/{stage}/": stage.replace("_", " ")
        for stage in (
            *("query_hydrators", "sources", "hydrators", "filters", "scorers", "selectors"),
            *("post_filters", "side_effects"),
        )
    },
    "SqliteViewers.": "store of viewers",
    "(serve/stores/viewers/": "store of viewers",
    "(pipelines/feed/expla": "answer: posts, reasons",
    "(pipelines/feed/table.py": "engine: tables of posts",
    "(pipelines/feed/run.py": "engine: turns of components",
    "(pipelines/feed/": "engine: else",
    "FeedHandler.": "handler",
    "(asyncio/": "event loop and threads",
    "(concurrent/": "event loop and threads",
}


class Pages:
    """A fused replica's pages, in this process."""

    def __init__(self, bundle: Bundle, mode: str, folder: Path) -> None:
        """Load the models of `bundle`; `mode` is one of MODES, and `folder` for what is written."""
        config = load_config("configs/feed.yaml", FeedConfig)
        if mode == "anew":
            path = folder / "feed.yaml"
            path.write_text(yaml.safe_dump(EVERY_PAGE_ANEW))
            config = load_config(path, FeedConfig)
        log = EventLog(folder / "events", writer="bench")
        self._handler = FeedHandler(Pipeline.build(config), log, clock="log")
        models = models_of(Retriever(bundle), Ranker(bundle), Scorer(bundle))
        self._handler.use(bundle, models)

    async def make(self, users: Iterable[int]) -> None:
        """One page each, with its JSON and its side effects."""
        for user_id in users:
            page = await self._handler.feed(FeedRequest(user_id=user_id, limit=LIMIT))
            page.model_dump_json()

    async def close(self) -> None:
        """Write out what is buffered."""
        await self._handler.close()


async def make(bundle: Bundle, mode: str, num: int) -> None:
    """Warm up, say so, wait for a line, make `num` pages and print the ms of CPU of each."""
    user_id = np.random.default_rng(0).permutation(bundle.profiles["user_id"].to_numpy())
    turn = iter(zipf(user_id[:_VIEWERS], WARM_UP + num))
    with tempfile.TemporaryDirectory() as folder:
        pages = Pages(bundle, mode, Path(folder))
        await pages.make(itertools.islice(turn, WARM_UP))
        print("ready", flush=True)
        sys.stdin.readline()
        begin_s = time.process_time()
        await pages.make(turn)
        print(1000 * (time.process_time() - begin_s) / num, flush=True)
        await pages.close()


def looked_at(bundle: Path, mode: str, num: int) -> tuple[float, str]:
    """CPU ms of a page, and what py-spy saw: a line for each stack, and how often.

    Raises:
        RuntimeError: py-spy may not look at another process here.
    """
    command = [sys.executable, "-m", "tests.bench.bench_page", "--bundle", str(bundle)]
    command += ["--pages", str(num), "--make", mode]
    with (
        tempfile.NamedTemporaryFile() as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made,
    ):
        assert made.stdin is not None
        assert made.stdout is not None
        if made.stdout.readline() != "ready\n":
            raise RuntimeError("no pages were made; see above")
        spy = Path(sys.executable).with_name("py-spy")
        options = ["--rate", str(_PER_S), "--nonblocking", "--format", "raw", "--output", file.name]
        looking = [str(spy), "record", "--pid", str(made.pid), *options]
        with subprocess.Popen(looking, stderr=subprocess.PIPE, text=True) as looks:
            time.sleep(_ATTACHED_S)
            made.stdin.write("go\n")
            made.stdin.flush()
            cpu_ms = float(made.stdout.readline())
            looks.send_signal(signal.SIGINT)
            _, said = looks.communicate()
        if not (seen := Path(file.name).read_text()):
            raise RuntimeError(f"py-spy saw nothing; it needs the right to trace: {said.strip()}")
        return cpu_ms, seen


def parts_of(seen: str, cpu_ms: float) -> dict[str, float]:
    """How many of a page's CPU ms go to each part, largest first.

    Args:
        seen: a line for each stack: frames from the outermost on, a space, and how often.
        cpu_ms: of a page.
    """
    times: Counter[str] = Counter()
    for line in seen.splitlines():
        frames, num = line.rsplit(" ", 1)
        if frames.split(";")[-1].startswith(_IDLE):
            continue
        named = (PARTS[mark] for f in reversed(frames.split(";")) for mark in PARTS if mark in f)
        times[next(named, "all else")] += int(num)
    return {name: cpu_ms * num / times.total() for name, num in times.most_common()}


def limit_ms(bundle: Bundle) -> dict[str, float]:
    """Of a scoring pass for one viewer and 500 candidates, as it is and as its products alone."""
    torch.set_num_threads(1)
    model = bundle.load_ranker()
    assert isinstance(model, Model)
    spec, rounds = model.config.features, Rounds(512)
    inputs = viewers(spec, torch.tensor([spec.history_len]), 0)
    inputs |= candidates(spec, (1, CANDIDATES), 0)
    with torch.inference_mode():
        context = model.context(inputs)
        done = flops(lambda: model.score_candidates(context, inputs))
        for _ in range(_ROUNDS):
            rounds.limit()
            rounds.time("pass", lambda: model.score_candidates(context, inputs))
    row = rounds.rows({"pass": done})["pass"]
    return {
        "eager pass": row["p50_cpu_ms"],
        "its products at the rate of the core": 1000 * done / rounds.flops_per_s(),
    }


def main() -> None:
    """Look at both kinds of pages, print the report, write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_page")
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    parser.add_argument("--pages", type=int, default=1000, help="looked at, of each kind")
    parser.add_argument("--make", choices=MODES, help=argparse.SUPPRESS)
    add_out(parser)
    args = parser.parse_args()
    bundle = load(args.bundle)
    if args.make:
        torch.set_num_threads(1)
        asyncio.run(make(bundle, args.make, args.pages))
        return
    load_before = os.getloadavg()[0]
    found: dict[str, dict[str, float]] = {}
    for mode in MODES:
        cpu_ms, seen = looked_at(args.bundle, mode, args.pages)
        found[f"a page {mode}, ms of CPU"] = {"all": cpu_ms, **parts_of(seen, cpu_ms)}
    about = {"load_before": load_before, "pages": args.pages, "candidates": CANDIDATES}
    record = {
        "header": header(bundle.card["data_fingerprint"], seeds=[0]) | about,
        **found,
        "a scoring pass, ms of CPU": limit_ms(bundle),
    }
    print(write("page_bench", record, args.out).read_text())


if __name__ == "__main__":
    main()
