"""The numbers of one head that conditions are compared by, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.prefix.jobs import Items, Record
from train.prefix.metrics import steerability
from train.prefix.statistics import holm, paired_bootstrap, paired_t, summary

Run = tuple[Record, Items]
COARSE, FINE = 0, -1  # levels


def scalars(record: Record) -> dict[str, float]:
    """Of one measured head: S by pool and its kin, and what stands beside it.

    `s_500` ... `s_train` and `s_auc_*`, `s_gap_*`, `s_mono_*` by neighbours; `s_probe` and `s_r`
    by linear probe and R-precision; `l0_first_POOL`, `l1_whole_POOL` and so on accuracies; `r_*`
    R-precisions. `first` is the shortest prefix, `whole` the longest.
    """
    values: dict[str, float] = {}
    for pool, curves in record["knn"].items():
        coarse, fine = ends(curves)
        for name, value in steerability(coarse, fine).items():
            values[f"{name}_{pool}"] = value
        values |= _both_ends(f"_{pool}", coarse, fine)
    for name, key in (("r_precision", "s_r"), ("probe", "s_probe")):
        coarse, fine = ends(record[name])
        values[key] = steerability(coarse, fine)["s"]
        prefix = "r_" if name == "r_precision" else "probe_"
        values |= {prefix + k: v for k, v in _both_ends("", coarse, fine).items()}
    return values


def ends(curves: Mapping[str, Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
    """Curves of the coarsest and of the finest level."""
    levels = sorted(curves)
    return curves[levels[COARSE]], curves[levels[FINE]]


def _both_ends(pool: str, coarse: Sequence[float], fine: Sequence[float]) -> dict[str, float]:
    return {
        f"l0_first{pool}": coarse[0],
        f"l0_whole{pool}": coarse[-1],
        f"l1_first{pool}": fine[0],
        f"l1_whole{pool}": fine[-1],
    }


def all_scalars(runs: Sequence[Run]) -> dict[str, list[float]]:
    """`scalars` of all seeds: name -> one value a seed."""
    found = [scalars(record) for record, _ in runs]
    return {name: [values[name] for values in found] for name in found[0]}


def summaries(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean, sd, half of the 95 % interval and number of the values of each name."""
    return {name: summary(of) for name, of in values.items()}


def mean_curves(runs: Sequence[Run], *path: str) -> dict[str, Any]:
    """Curves over prefixes: level -> `mean` and `sd` at each, over seeds."""
    result: dict[str, Any] = {}
    for record, _ in runs:
        value: Any = record
        for key in path:
            value = value[key]
        for level, curve in value.items():
            result.setdefault(level, []).append(curve)
    return {
        level: {
            "mean": np.mean(curves, axis=0).tolist(),
            "sd": np.std(curves, axis=0, ddof=1).tolist(),
        }
        for level, curves in result.items()
    }


def compare(
    pairs: Mapping[str, tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]]],
    names: Sequence[str],
) -> dict[str, Any]:
    """Paired t tests, with Holm's correction over the pairs within each measure.

    Args:
        pairs: label of the pair -> `all_scalars` of either side.
        names: measures.

    Returns:
        measure -> pair -> as `paired_t`, with `p_holm`.
    """
    result: dict[str, Any] = {}
    for name in names:
        tests = {label: paired_t(a[name], b[name]) for label, (a, b) in pairs.items() if name in a}
        corrected = holm({label: test["p"] for label, test in tests.items()})
        result[name] = {
            label: {**test, "p_holm": corrected[label]} for label, test in tests.items()
        }
    return result


def bootstrap(a: Sequence[Run], b: Sequence[Run], name: str, same_items: bool) -> dict[str, float]:
    """Interval of the difference in S when seeds and test texts are drawn anew.

    Args:
        a: runs of one condition.
        b: of another, same seeds.
        name: `knn` (neighbours from the training texts) or `r_precision`.
        same_items: whether all seeds have the same test texts.
    """
    differences = [
        _in_order(one, name) - _in_order(other, name)
        for (_, one), (_, other) in zip(a, b, strict=True)
    ]
    return paired_bootstrap(differences, same_items)


def _in_order(items: Items, name: str) -> NDArray[np.float64]:
    return items[name].astype(np.float64)[np.argsort(items["row"])]
