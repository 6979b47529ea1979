"""`python -m tests.bench.bench_ranker [--rounds N]`: what a kept context and compilation are worth.

The shape of the published figure of a K/V cache (12 layers of 512, a history of 1,023, eight
candidates, one viewer): a full pass, a miss of the served cache and a hit, keys and copies
included, eager and compiled as in serving. Then the demo's shape as one compiled graph. Random
weights and inputs, another batch each round; all ways take turns within each round, on one core.
So does a product of two matrices, the measure of what the core can do; beside the demo's shape only
now and then, as it drives the weights out of the core's cache. On a machine that others use, `cpu
ms` (time of this thread alone) is the number to read. Results go to
tests/bench/reports/ranker_bench.json.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines.features import FeatureSpec, Inputs
from serve.context_caches import ContextCaches
from serve.passes import Passes
from tests.bench.bench_recent import Timer
from tests.train.models.ranker_worlds import VOCAB, candidates, ranker, viewers
from train.models.compiled import compiled, compiler_problem
from train.models.layers import TransformerConfig
from train.models.package import CompileSettings
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors, tensors
from train.published_cases import IDS_ALONE
from train.report import BENCH_REPORTS, add_out, header, write

WARM_UP = 3
EVERY = (
    5  # rounds of the large shape have full passes, and misses without compilation: they are long
)
DEMO_ROUNDS = 2  # times as many
LIMIT_EVERY = 10  # rounds of them have a product, which drives the weights out of the core's cache
C = 8


def config(layers: int, emb_size: int, heads: int, kv_heads: int, history_len: int) -> RankerConfig:
    """A published shape: heads of 64, ids alone."""
    vocab = dict.fromkeys(("user_vocab", "post_vocab", "author_vocab"), VOCAB)
    shape = TransformerConfig(
        num_layers=layers, num_heads=heads, num_kv_heads=kv_heads, key_size=64
    )
    spec = FeatureSpec(history_len=history_len, **vocab, **IDS_ALONE)
    return RankerConfig(emb_size=emb_size, transformer=shape, features=spec)


LARGE, DEMO = config(12, 512, 8, 4, 1023), config(2, 128, 2, 2, 32)


class Rounds:
    """Ways that take turns, and what each took."""

    def __init__(self, size: int = 1024) -> None:
        self.timers: dict[str, Timer] = defaultdict(Timer)
        self._a, self._b = torch.randn(2, size, size)

    def time(self, name: str, way: Callable[[], Any]) -> Any:
        """What `way` gives."""
        with self.timers[name]:
            return way()

    def limit(self) -> None:
        """Multiply two matrices, which shows what the core can do just now."""
        self.time("product", lambda: self._a @ self._b)

    def flops_per_s(self) -> float:
        """Of the products of matrices, by this thread's time."""
        return 2 * len(self._a) ** 3 / (self._row("product")["p50_cpu_ms"] / 1000)

    def rows(self, flops: dict[str, int]) -> dict[str, dict[str, float]]:
        """Times of each way, and the share of the limit that is reached.

        Args:
            flops: last word of a way's name -> as `flops` gives them.
        """
        rows = {}
        for name in self.timers:
            if name == "product":
                continue
            row = self._row(name)
            done = flops[name.split()[-1]]
            share = done / (row["p50_cpu_ms"] / 1000) / self.flops_per_s()
            rows[name] = row | {"gflop": done / 1e9, "share_of_limit": share}
        return rows

    def _row(self, name: str) -> dict[str, float]:
        timer = self.timers[name]
        return timer.percentiles(min(WARM_UP, len(timer.wall_ms) - 1))


def flops(way: Callable[[], Any]) -> int:
    """Floating-point operations of the products of matrices in it, as it is without compilation."""
    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def batch(config: RankerConfig, num_viewers: int, seed: int, full: bool) -> Inputs:
    """Random viewers, with full histories or half of one at least, and candidates for them."""
    S = config.features.history_len
    g = torch.Generator().manual_seed(seed)
    lengths = torch.full((num_viewers,), S)
    if not full:
        lengths = torch.randint(S // 2, S + 1, (num_viewers,), generator=g)
    inputs = viewers(config.features, lengths, seed)
    inputs |= candidates(config.features, (num_viewers, C), seed)
    return {name: values.numpy() for name, values in inputs.items()}


@torch.inference_mode()
def large(rounds: int) -> dict[str, Any]:
    """Full pass, miss and hit, eager and compiled; and how far hits are from eager full passes."""
    ways, problem = Rounds(), compiler_problem()
    eager, fast = ranker(LARGE, 0), Passes(ranker(LARGE, 0), C)
    models: dict[str, Ranker | Passes] = {"eager": eager}
    if problem is None:
        shapes = CompileSettings(candidates=(C,))
        done = fast.compile(shapes, lambda b, _: tensors(batch(LARGE, b, 0, full=True)))
        assert done, "the log says why"
        models["compiled"] = fast
    caches = {kind: ContextCaches(model, "", 2**27) for kind, model in models.items()}
    far, spread = dict.fromkeys(models, 0.0), 0.0

    def full(kind: str, mine: Tensors) -> Tensor:
        return ways.time(
            f"{kind} full",
            lambda: (
                eager(mine) if kind == "eager" else fast.score_candidates(fast.context(mine), mine)
            ),
        )

    def scores(way: str, kind: str, inputs: Inputs) -> Tensor:
        """As served: its key, the context kept or computed, the candidates."""
        cache, mine = caches[kind], tensors(inputs)
        before = cache.hits
        found = ways.time(
            f"{kind} {way}", lambda: models[kind].score_candidates(cache.of(inputs), mine)
        )
        assert cache.hits - before == (way == "hit")
        return found

    first: Inputs = {}
    for number in range(rounds + WARM_UP):
        inputs, with_full = batch(LARGE, 1, number, full=True), number % EVERY == 0
        mine = tensors(inputs)
        ways.limit()
        if with_full:
            first = {n: v for n, v in inputs.items() if not n.startswith("candidate_")}
            whole, there = full("eager", mine), mine["candidate_post_hashes"][..., 0] != 0
            spread = float(whole[there].std())
        for kind in models:
            if kind != "eager" or with_full:
                scores("miss", kind, inputs)
                kept = scores("hit", kind, inputs)
            else:
                scores("hit", kind, inputs | first)
            if with_full:
                far[kind] = max(far[kind], float((whole - kept)[there].abs().max()))
        if with_full and problem is None:
            full("compiled", mine)
    kept_context, num = caches["eager"].of(inputs | first), flops(lambda: eager(mine))
    hit = flops(lambda: eager.score_candidates(kept_context, mine))
    stats = caches["eager"].stats()
    return {
        "compiled": problem or "context and scores as one graph each, as in serving",
        "matrix_products_gflop_per_s": ways.flops_per_s() / 1e9,
        "bytes_kept_of_a_viewer": stats["bytes"] // stats["kept"],
        "largest_difference_of_logits_hit_to_full": far,
        "standard_deviation_of_logits": spread,
        "times": ways.rows({"full": num, "miss": num, "hit": hit}),
    }


@torch.inference_mode()
def demo(rounds: int, num_viewers: int) -> dict[str, Any]:
    """The demo's ranker, from hashes to outputs: eager, and compiled as one graph."""
    ways, model, problem = Rounds(512), ranker(DEMO, 0), compiler_problem()
    every = {"eager": model.forward}
    if problem is None:
        torch._dynamo.reset()
        every["compiled"] = compiled(model.forward)
    different = 0.0
    for number in range(rounds + WARM_UP):
        inputs = tensors(batch(DEMO, num_viewers, number, full=False))
        if number % LIMIT_EVERY == 0:
            ways.limit()
        found = {name: ways.time(name, partial(way, inputs)) for name, way in every.items()}
        there = inputs["candidate_post_hashes"][..., 0] != 0
        for scores in found.values():
            different = max(different, float((scores - found["eager"])[there].abs().max()))
    done = flops(lambda: model(inputs))
    return {
        "compiled": problem or "as one graph, wrapped in C++",
        "matrix_products_gflop_per_s": ways.flops_per_s() / 1e9,
        "largest_difference_of_logits": different,
        "times": ways.rows(dict.fromkeys(every, done)),
    }


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked for, and what came of it, by this thread's own time."""
    times = results["large"]["times"]
    bars = []
    for kind in ("compiled", "eager"):
        if f"{kind} miss" in times:
            ratio = times[f"{kind} miss"]["p50_cpu_ms"] / times[f"{kind} hit"]["p50_cpu_ms"]
            bars.append((f"{kind} miss over hit", ">= 10", ratio, ratio >= 10))
    for kind, far in results["large"]["largest_difference_of_logits_hit_to_full"].items():
        bars.append((f"{kind} hit, largest difference of logits", "<= 1e-4", far, far <= 1e-4))
    for name, most in (("demo, 4 viewers", 2.0), ("demo, 1 viewer", 0.5)):
        for kind, row in results[name]["times"].items():
            if kind == "compiled":
                ms = row["p50_cpu_ms"]
                bars.append((f"{name}, compiled p50 ms", f"<= {most}", ms, ms <= most))
    return [dict(zip(("check", "bar", "value", "met"), bar, strict=True)) for bar in bars]


def report(rounds: int, folder: Path = BENCH_REPORTS) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's."""
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    results: dict[str, Any] = {
        "demo, 1 viewer": demo(DEMO_ROUNDS * rounds, 1),  # later in a process it takes longer
        "demo, 4 viewers": demo(DEMO_ROUNDS * rounds, 4),
        "large": large(rounds),
    }
    results = {"checks": checks(results), "candidates": C, **results}
    table = Table("way", "p50 ms", "p50 cpu ms", "share of limit", box=SIMPLE)
    for part in ("large", "demo, 4 viewers", "demo, 1 viewer"):
        for name, row in results[part]["times"].items():
            numbers = (row["p50_ms"], row["p50_cpu_ms"], row["share_of_limit"])
            table.add_row(f"{part}: {name}", *(f"{value:,.4g}" for value in numbers))
    Console().print(table)
    origin = header("made up: tests.train.models.ranker_worlds", seeds=[0])
    return write(
        "ranker_bench",
        {"header": origin | {"load_before": load_before, "load_after": os.getloadavg()[0]}}
        | results,
        folder,
    )


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_ranker")
    parser.add_argument("--rounds", type=int, default=50)
    add_out(parser)
    args = parser.parse_args()
    print(f"{report(args.rounds, args.out)}: written")


if __name__ == "__main__":
    main()
