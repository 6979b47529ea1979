"""`python -m tests.bench.bench_compiled [--rounds N]`: what compiled passes are worth in serving.

The demo's ranker (configs/ranker/tiny.yaml) with histories of 128 and 500 candidates, as a Ranker
replica computes it: a viewer whose context is kept or is not, one viewer or four at once, eager
beside compiled here (`args.ranking.compile`) and as a bundle brings it compiled (a package, `python
-m train.bundle.compiled`). Random weights and inputs, another batch each round, ways take turns
within it, on one core; `cpu ms` (time of this thread alone) is the number to read on a machine that
others use. And how long a replica takes until it is ready: without anything compiled before, for
the next bundle, for a new process that finds what was compiled, and with a package; and what a
package takes to make. Results go to tests/bench/reports/ranker_compiled.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.features import Inputs
from serve.context_caches import ContextCaches
from serve.deployments import RankerSettings
from serve.passes import Passes
from tests.bench.bench_ranker import WARM_UP, Rounds, flops
from tests.train.models.ranker_worlds import candidates, ranker, viewers
from train.models.compiled import compiler_problem
from train.models.package import CompileSettings, Package, compile_package
from train.models.ranker import RankerConfig
from train.models.tokens import Tensors
from train.report import BENCH_REPORTS, add_out, header, write

DEMO = RankerConfig(features={"history_len": 128})
C = 500
VIEWERS = (1, 4)
SHAPES = CompileSettings()
WIDER = CompileSettings(viewers=(1, 4))  # four viewers in one pass, too
AT_ONCE = RankerSettings().candidates_at_once


def any_inputs(num_viewers: int, num_candidates: int, seed: int = 0) -> Tensors:
    """Random viewers with full histories or half of one at least, and candidates for them."""
    S, g = DEMO.features.history_len, torch.Generator().manual_seed(seed)
    lengths = torch.randint(S // 2, S + 1, (num_viewers,), generator=g)
    inputs = viewers(DEMO.features, lengths, seed)
    return inputs | candidates(DEMO.features, (num_viewers, num_candidates), seed)


def timed(what: str, step: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What it gives, and its seconds by the clock and of the processors, compilers included."""
    wall_s, cpu_s = time.perf_counter(), _cpu_s()
    given = step()
    took = {"wall_s": time.perf_counter() - wall_s, "cpu_s": _cpu_s() - cpu_s}
    return given, {"start": what} | took


def started(passes: Passes, what: str, shapes: CompileSettings = SHAPES) -> dict[str, Any]:
    """Compile; how long it takes until ready."""
    done, row = timed(what, partial(passes.compile, shapes, any_inputs))
    return row | {"compiled": done}


def _cpu_s() -> float:
    return sum(os.times()[:4])  # of this process and of those that it started and that ended


def again() -> None:
    """A new process that finds what was compiled before; prints its record."""
    torch.set_num_threads(1)
    print(json.dumps(started(Passes(ranker(DEMO, 2), AT_ONCE), "a new process")))


def loaded(file: str, card: str) -> None:
    """A new process without a compiler that finds a package; prints its record."""
    torch.set_num_threads(1)
    os.environ["PATH"] = ""
    passes, package = Passes(ranker(DEMO, 2), AT_ONCE), Package(Path(file), json.loads(card))
    done, row = timed("a package, in a new process", lambda: passes.load(package, None, any_inputs))
    print(json.dumps(row | {"compiled": done}))


def in_new_process(step: Callable[..., None], *args: str) -> dict[str, Any]:
    """The record that it prints there."""
    code = f"from {__spec__.name} import {step.__name__} as step; step(*{args!r})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


def packaged(folder: str) -> tuple[Passes, list[dict[str, Any]]]:
    """A ranker with a package, and what it takes to make and to load."""
    file, model = Path(folder) / "ranker.pt2", ranker(DEMO, 0)
    card, made = timed("make a package", lambda: compile_package(model, SHAPES, any_inputs, file))
    passes, package = Passes(model, AT_ONCE), Package(file, card.model_dump(mode="json"))
    done, row = timed("a package", lambda: passes.load(package, None, any_inputs))
    again = in_new_process(loaded, str(file), json.dumps(package.card))
    return passes, [made | {"bytes": file.stat().st_size}, row | {"compiled": done}, again]


def starts(wide: bool) -> tuple[dict[str, Passes], list[dict[str, Any]]]:
    """Compiled rankers, and how long it took, also with what was compiled before."""
    passes, next_one, wider = (Passes(ranker(DEMO, seed), AT_ONCE) for seed in (0, 1, 0))
    rows = [started(passes, "nothing compiled before"), started(next_one, "the next bundle")]
    rows += [in_new_process(again)]
    ways = {"compiled": passes}
    if wide:
        rows += [started(wider, "shapes of four viewers on top", WIDER)]
        ways["compiled for four, too:"] = wider
    return ways, rows


@torch.inference_mode()
def measured(ways: dict[str, Passes], num_viewers: int, rounds: int) -> dict[str, Any]:
    """Misses and hits of each way, taking turns, and how far their log-odds are from eager ones."""
    timed = Rounds(512)
    caches = {kind: ContextCaches(passes, "", 2**27) for kind, passes in ways.items()}
    different = 0.0
    for number in range(rounds + WARM_UP):
        inputs = any_inputs(num_viewers, C, number)
        arrays: Inputs = {name: values.numpy() for name, values in inputs.items()}
        there = inputs["candidate_post_hashes"][..., 0] != 0
        timed.limit()
        found = {}
        for kind in ways if number % 2 else reversed(ways):
            for what in ("miss", "hit"):
                hits = caches[kind].hits
                timed.time(f"{kind} {what}", partial(caches[kind].predict, arrays))
                assert caches[kind].hits - hits == num_viewers * (what == "hit")
            context = caches[kind].of(arrays)
            found[kind] = ways[kind].score_candidates(context, inputs)
        for logits in found.values():
            different = max(different, float((logits - found["eager"])[there].abs().max()))
    kept = caches["eager"].of(arrays)
    done = {
        "miss": flops(lambda: ways["eager"].predict(inputs)),
        "hit": flops(lambda: ways["eager"].predict(inputs, kept)),
    }
    return {
        "matrix_products_gflop_per_s": timed.flops_per_s() / 1e9,
        "largest_difference_of_logits": different,
        "times": timed.rows(done),
    }


def report(rounds: int, folder: Path = BENCH_REPORTS, wide: bool = True) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's."""
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    ways, rows = {"eager": Passes(ranker(DEMO, 0), AT_ONCE)}, []
    problem = compiler_problem()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        if problem is None:
            compiled, rows = starts(wide)
            package, more = packaged(cache)
            ways |= compiled | {"packaged": package}
            rows += more
        results: dict[str, Any] = {
            "candidates": C,
            "compiled": problem or SHAPES.model_dump(),
            "starts": rows,
        }
        for num in VIEWERS:
            results[f"viewers: {num}"] = measured(ways, num, rounds)
    table = Table("way", "p50 ms", "p50 cpu ms", "share of limit", box=SIMPLE)
    for num in VIEWERS:
        for name, row in results[f"viewers: {num}"]["times"].items():
            numbers = (row["p50_ms"], row["p50_cpu_ms"], row["share_of_limit"])
            table.add_row(f"{num}: {name}", *(f"{value:,.4g}" for value in numbers))
    Console().print(table)
    Console().print(rows)
    origin = header("made up: tests.train.models.ranker_worlds", seeds=[0])
    loads = {"load_before": load_before, "load_after": os.getloadavg()[0]}
    return write("ranker_compiled", {"header": origin | loads} | results, folder)


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_compiled")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--narrow", action="store_true", help="no shapes of four viewers")
    add_out(parser)
    args = parser.parse_args()
    print(f"{report(args.rounds, args.out, not args.narrow)}: written")


if __name__ == "__main__":
    main()
