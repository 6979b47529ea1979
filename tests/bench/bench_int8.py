"""`python -m tests.bench.bench_int8 BUNDLE --data DIR`: what an int8 ranker is worth.

Full passes for one viewer as float32 and as int8, for 8 to 500 candidates: the bundle's ranker,
that also with tables alone as int8, and random ones of the published study's width (4 layers of
128) and of 512. Another batch each round; all ways and a product of two matrices take turns within
it, none always first, on one core. On a machine that others use, `cpu ms` (time of this thread
alone) is the number to read. Then, of the bundle's ranker on the test split, how far quantised
scores order each viewer's posts otherwise. Results go to tests/bench/reports/int8_bench.json.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.facts import Facts
from pipelines.features import FeatureSpec
from pipelines.schema import ACTION_NAMES
from tests.bench.bench_ranker import Rounds
from tests.train.models.ranker_worlds import VOCAB, candidates, ranker, viewers
from train.bundle import Bundle, load
from train.evaluate import predict
from train.metrics import ndcg_at_k
from train.models.layers import TransformerConfig
from train.models.quantised import num_weight_bytes, quantised
from train.models.ranker import Ranker, RankerConfig
from train.report import BENCH_REPORTS, add_out, header, write
from train.rows import flatten, read_examples

WARM_UP = 3
CANDIDATES = (8, 64, 256, 500)
CUTOFF = 10  # of NDCG
LEAST_SHOWN = 8  # posts of a viewer whose order is compared


def config(emb_size: int) -> RankerConfig:
    """Four layers, heads of 64, two to a key/value head; small tables, so that maps matter."""
    heads = emb_size // 64
    shape = TransformerConfig(
        num_layers=4, num_heads=heads, num_kv_heads=max(1, heads // 2), key_size=64
    )
    vocab = dict.fromkeys(("user_vocab", "post_vocab", "author_vocab"), VOCAB)
    return RankerConfig(emb_size=emb_size, transformer=shape, features=FeatureSpec(**vocab))


def ways_of(model: Ranker) -> dict[str, Ranker]:
    """The ranker, and the same quantised."""
    return {"float32": model, "int8": quantised(model)}


@torch.inference_mode()
def times(ways: dict[str, Ranker], rounds: int) -> dict[str, dict[str, float]]:
    """What passes for one viewer take; `speed` is float32's time over this one's."""
    spec, names, rows = ways["float32"].config.features, list(ways), {}
    for C in CANDIDATES:
        turns = Rounds(512)
        for number in range(rounds + WARM_UP):
            lengths = torch.tensor([spec.history_len])
            inputs = viewers(spec, lengths, number) | candidates(spec, (1, C), number)
            turns.limit()
            for name in names[number % len(names) :] + names[: number % len(names)]:
                turns.time(name, partial(ways[name], inputs))
        took = {name: turns.timers[name].percentiles(WARM_UP) for name in ways}
        for name, row in took.items():
            speed = took["float32"]["p50_cpu_ms"] / row["p50_cpu_ms"]
            rows[f"{C} candidates, {name}"] = row | {"speed": speed}
    return rows


def sizes(ways: dict[str, Ranker]) -> dict[str, dict[str, float]]:
    """Bytes of weights, and what share is saved."""
    num = {name: num_weight_bytes(model) for name, model in ways.items()}
    return {n: {"bytes": b, "saved": 1 - b / num["float32"]} for n, b in num.items()}


def orders(
    bundle: Bundle, ways: dict[str, Ranker], data: Path, relevant: str
) -> dict[str, dict[str, float]]:
    """How each way orders the posts that a viewer was shown in the test split, by value.

    `top_3_overlap` is the mean share of float32's three best that are among this way's.
    """
    test, facts = read_examples(data, "test"), Facts.load(data)
    log = flatten(test)
    label = log.label(ACTION_NAMES.index(relevant))
    value = {
        name: predict(model, test, facts, quiet=True) @ bundle.weights
        for name, model in ways.items()
    }
    order = np.argsort(log.user_id, kind="stable")
    groups = np.split(order, np.nonzero(np.diff(log.user_id[order]))[0] + 1)
    groups = [rows for rows in groups if len(rows) >= LEAST_SHOWN]
    return {
        name: {
            "viewers": len(groups),
            "top_3_overlap": _mean(_overlap(value["float32"][g], of_way[g]) for g in groups),
            f"ndcg_{CUTOFF}": _ndcg([label[g][_best(of_way[g])] for g in groups]),
            "largest_difference_of_values": float(np.abs(of_way - value["float32"]).max()),
            "deviation_of_values": float(of_way.std()),
        }
        for name, of_way in value.items()
    }


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
    """What was asked for, and what came of it."""
    bars = []
    for shape, part in results["shapes"].items():
        saved = part["weights"]["int8"]["saved"]
        bars.append((f"{shape}: share of bytes saved", ">= 0.7", saved, saved >= 0.7))
        for C in CANDIDATES:
            speed = part["times"][f"{C} candidates, int8"]["speed"]
            least = ("> 1", speed > 1) if C >= 256 else (">= 1", speed >= 1)
            bars.append((f"{shape}: int8's speed, {C} candidates", least[0], speed, least[1]))
    exact, int8 = results["orders"]["float32"], results["orders"]["int8"]
    overlap, name = int8["top_3_overlap"], f"ndcg_{CUTOFF}"
    drop = exact[name] - int8[name]
    bars.append(("top-3 overlap", ">= 0.99", overlap, overlap >= 0.99))
    bars.append((f"drop of NDCG@{CUTOFF}", "<= 0.002", drop, drop <= 0.002))
    return [dict(zip(("check", "bar", "value", "met"), bar, strict=True)) for bar in bars]


def report(
    bundle: Bundle, data: Path, relevant: str, rounds: int, folder: Path = BENCH_REPORTS
) -> Path:
    """Measure, print, and write the record and its page, to `folder` if not the repository's."""
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    served = bundle.load_ranker()
    assert isinstance(served, Ranker)
    models = {"bundle's": ways_of(served) | {"int8 tables": quantised(served, maps=False)}}
    models |= {f"4 layers of {D}": ways_of(ranker(config(D), 0)) for D in (128, 512)}
    results: dict[str, Any] = {
        "shapes": {
            name: {"weights": sizes(ways), "times": times(ways, rounds)}
            for name, ways in models.items()
        },
        "orders": orders(bundle, models["bundle's"], data, relevant),
    }
    results = {"checks": checks(results), **results}
    table = Table("check", "bar", "value", "met", box=SIMPLE)
    for row in results["checks"]:
        table.add_row(
            row["check"], row["bar"], f"{row['value']:.4f}", "yes" if row["met"] else "NO"
        )
    Console().print(table)
    origin = header(bundle.card["data_fingerprint"], seeds=[0])
    origin |= {"load_before": load_before, "load_after": os.getloadavg()[0]}
    return write("int8_bench", {"header": origin} | results, folder)


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_int8")
    parser.add_argument("bundle", help="any bundle with a ranker that learned")
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--relevant", default="click", help="action that makes a post right")
    parser.add_argument("--rounds", type=int, default=50)
    add_out(parser)
    args = parser.parse_args()
    done = report(load(args.bundle), args.data, args.relevant, args.rounds, args.out)
    print(f"{done}: written")


if __name__ == "__main__":
    main()
