"""`python -m tests.bench.bench_int8 BUNDLE --data DIR`: what an int8 ranker is worth.

Answers for one viewer as float32, as bfloat16 and as int8, eager and compiled, their context
computed (miss) or kept (hit): the bundle's ranker, and random ones of the published study's width
(4 layers of 128) and of 512; with `--large` also 12 layers of 512 over a history of 1,023. Another
batch each round; all ways and a product of two matrices take turns within it, none always first, on
one core. On a machine that others use, `cpu ms` (time of this thread alone) is the number to read.
Then, of the bundle's ranker on the test split, how far quantised scores order each viewer's posts
otherwise, and so of the bundles after `--also`. Results go to tests/bench/reports/int8_bench.json.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.facts import Facts
from pipelines.schema import ACTION_NAMES
from tests.bench.bench_ranker import LARGE
from tests.bench.int8_passes import Kept, config, fastest, measured, sizes, ways_of
from tests.train.models.ranker_worlds import ranker
from train.bundle import Bundle, load
from train.evaluate import predict
from train.metrics import ndcg_at_k
from train.models.quantised import quantised
from train.models.ranker import Ranker
from train.report import BENCH_REPORTS, add_out, header, write
from train.rows import flatten, read_examples

CANDIDATES = (8, 256, 500)
LARGE_EVERY = 5  # rounds of the large shape have one viewer: a full pass takes seconds
NOISE = 0.001  # standard deviations
CUTOFF = 10  # of NDCG
COMBINED = "compiled hit int8"
KEPT = "int8, contexts too"  # as a Ranker serves it
LEAST_SHOWN = 8  # posts of a viewer whose order is compared


def orders(
    bundle: Bundle, ways: dict[str, Any], data: Path, relevant: str
) -> dict[str, dict[str, float]]:
    """How each way orders the posts that a viewer was shown in the test split, by value.

    `top_3_overlap` is the mean share of float32's three best that are among this way's. Beside the
    ways stands float32 with noise, normal, a thousandth of what a viewer's values deviate by.
    """
    test, facts = read_examples(data, "test"), Facts.load(data)
    log = flatten(test)
    label = log.label(ACTION_NAMES.index(relevant))
    order = np.argsort(log.user_id, kind="stable")
    groups = np.split(order, np.nonzero(np.diff(log.user_id[order]))[0] + 1)
    groups = [rows for rows in groups if len(rows) >= LEAST_SHOWN]
    value = {
        name: predict(model, test, facts, quiet=True) @ bundle.weights  # in blocks of viewers
        for name, model in ways.items()
    }
    exact = value["float32"]
    value["float32 with noise"] = noisy = exact.copy()
    rng = np.random.default_rng(0)
    for rows in groups:
        noisy[rows] += NOISE * exact[rows].std() * rng.normal(size=len(rows))
    return {
        name: {
            "viewers": len(groups),
            "top_3_overlap": _mean(_overlap(exact[g], of_way[g]) for g in groups),
            f"ndcg_{CUTOFF}": _ndcg([label[g][_best(of_way[g])] for g in groups]),
            "off_by_deviations_of_a_viewer": _mean(_off(exact[g], of_way[g]) for g in groups),
        }
        for name, of_way in value.items()
    }


def _off(exact: NDArray, of_way: NDArray) -> float:
    """What differs but by one number for all, in standard deviations; a viewer of equals: 0."""
    return float((of_way - exact).std() / max(exact.std(), 1e-12))


def _best(value: NDArray) -> NDArray[np.int64]:
    return np.argsort(-value, kind="stable")


def _overlap(one: NDArray, other: NDArray) -> float:
    return len(np.intersect1d(_best(one)[:3], _best(other)[:3])) / 3


def _ndcg(labels: list[NDArray[np.bool_]]) -> float:
    """Of viewers who did it at all; labels best first."""
    found = [ndcg_at_k(row[None], row.sum(keepdims=True), CUTOFF) for row in labels if row.any()]
    return float(np.mean(found))


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked for, and what came of it, by this thread's own time."""
    bars: list[tuple[str, str, float | str, bool]] = []
    for shape, part in results["shapes"].items():
        saved = part["weights"]["int8"]["saved"]
        bars.append((f"{shape}: share of bytes saved", ">= 0.7", saved, saved >= 0.7))
        for num, passes in part["passes"].items():
            times = passes["times"]
            for way in ("eager miss int8", "compiled miss int8", COMBINED):
                if way in times:
                    speed, many = times[way]["speed"], int(num.split()[0]) >= 256
                    met = speed > 1 if many else speed >= 1
                    bar = "> 1" if many else ">= 1"
                    bars.append((f"{shape}, {num}: speed of {way}", bar, speed, met))
            first = fastest(times)
            bars.append((f"{shape}, {num}: fastest", COMBINED, first, first == COMBINED))
    for name, ways in results["orders"].items():
        overlap = ways[KEPT]["top_3_overlap"]
        bars.append((f"{name}: top-3 overlap", ">= 0.99", overlap, overlap >= 0.99))
        drop = ways["float32"][f"ndcg_{CUTOFF}"] - ways[KEPT][f"ndcg_{CUTOFF}"]
        bars.append((f"{name}: drop of NDCG@{CUTOFF}", "<= 0.002", drop, drop <= 0.002))
    return [dict(zip(("check", "bar", "value", "met"), bar, strict=True)) for bar in bars]


def report(
    bundles: Sequence[tuple[Path, Path]],
    relevant: str,
    rounds: int,
    large: bool = False,
    folder: Path = BENCH_REPORTS,
) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's.

    Args:
        bundles: with the data that each was trained on; the first one's ranker is timed.
        relevant: action that makes a post right.
        rounds: answers timed of each way.
        large: 12 layers of 512, too.
        folder: where to.
    """
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    models = {f"4 layers of {D}": (ranker(config(D), 0), CANDIDATES) for D in (128, 512)}
    if large:
        models["12 layers of 512"] = (ranker(LARGE, 0), CANDIDATES[:1])
    orderings, fingerprints = {}, []
    for path, data in bundles:
        bundle = load(path)
        served = bundle.load_ranker()
        assert isinstance(served, Ranker)
        ways: dict[str, Any] = ways_of(served)
        ways |= {"int8 tables": quantised(served, maps=False), KEPT: Kept(ways["int8"])}
        orderings[path.name] = orders(bundle, ways, data, relevant)
        fingerprints.append(bundle.card["data_fingerprint"])
        if path == bundles[0][0]:
            models = {"bundle's": (served, CANDIDATES)} | models
    results: dict[str, Any] = {"orders": orderings, "shapes": {}}
    for name, (model, numbers) in models.items():
        ways, every = ways_of(model), LARGE_EVERY if model.config == LARGE else 1
        passes = {f"{C} candidates": measured(ways, C, rounds, every) for C in numbers}
        results["shapes"][name] = {"weights": sizes(ways), "passes": passes}
    results = {"checks": checks(results), **results}
    table = Table("check", "bar", "value", "met", box=SIMPLE)
    for row in results["checks"]:
        value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4f}"
        table.add_row(row["check"], row["bar"], value, "yes" if row["met"] else "NO")
    Console().print(table)
    origin = header(", ".join(fingerprints), seeds=[0])
    origin |= {"load_before": load_before, "load_after": os.getloadavg()[0]}
    return write("int8_bench", {"header": origin} | results, folder)


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_int8")
    parser.add_argument("bundle", type=Path, help="any bundle with a ranker that learned")
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on")
    parser.add_argument(
        "--also",
        type=Path,
        nargs=2,
        action="append",
        default=[],
        metavar=("BUNDLE", "DIR"),
        help="another, whose orders are compared, too",
    )
    parser.add_argument("--relevant", default="click", help="action that makes a post right")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--large", action="store_true", help="12 layers of 512, too")
    add_out(parser)
    args = parser.parse_args()
    bundles = [(args.bundle, args.data), *map(tuple, args.also)]
    done = report(bundles, args.relevant, args.rounds, args.large, args.out)
    print(f"{done}: written")


if __name__ == "__main__":
    main()
