"""What short prefixes save: a mix of coarse and fine queries, and prefixes that grow on doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.prefix.jobs import Record
from train.prefix.measure import THRESHOLDS
from train.prefix.scalars import Run, ends
from train.prefix.study import Arms, Runs, StudyConfig, by_seed
from train.report_tables import Lines, table

SHARES = tuple(round(0.05 * step, 2) for step in range(21))  # of coarse queries


def arms(study: StudyConfig) -> Arms:
    """Those of the CLINC part."""
    return study.clinc_arms()


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Workload and confidence routing of each condition."""
    return {
        "shares": list(SHARES),
        "workload": {name: _workload(found) for (name,), found in runs.items()},
        "confidence": {name: _confidence(found) for (name,), found in runs.items()},
    }


def section(part: Mapping[str, Any]) -> Lines:
    """What short prefixes save."""
    lines = [
        "## Routing",
        "",
        "A workload of coarse queries, which take the first prefix, and fine ones, which take the "
        "whole vector, against every MRL prefix for all. The table gives the shares of coarse "
        "queries at which a condition beats the best MRL prefix; a dash: at none.",
        "",
    ]
    workload = part["workload"]
    if "mrl" in workload:
        pools = list(workload["mrl"])
        rows = [
            (name, *(_spans(ahead(workload, name, pool), part["shares"]) for pool in pools))
            for name in workload
            if name != "mrl"
        ]
        lines += table(("", *(f"pool {pool}" for pool in pools)), rows)
    lines += [
        "Accuracy of the fine label, and numbers compared for each text of the pool, when a vector "
        "grows while its neighbours' votes stay below a share (routed) or the 50 nearest by the "
        "first prefix are looked at again whole (reranked).",
        "",
    ]
    hows = list(next(iter(part["confidence"].values())))
    rows = [
        (
            name,
            *(
                f"{of[how]['accuracy']:.3f} at {of[how]['size']:.0f}" if how in of else "–"
                for how in hows
            ),
        )
        for name, of in part["confidence"].items()
        if name != "raw"
    ]
    return [*lines, *table(("", *hows), rows)]


def _workload(runs: list[Run]) -> dict[str, Any]:
    """By pool: accuracy when coarse queries take the first prefix and fine ones the whole vector.

    Beside it `fixed`: every query takes the same prefix.
    """
    result: dict[str, Any] = {}
    for pool in runs[0][0]["knn"]:
        coarse, fine = (np.mean([_ends(r, pool)[at] for r, _ in runs], axis=0) for at in (0, 1))
        sizes = np.array(runs[0][0]["sizes"], float)
        share = np.array(SHARES)
        result[pool] = {
            "adaptive": (share * coarse[0] + (1 - share) * fine[-1]).tolist(),
            "size": (share * sizes[0] + (1 - share) * sizes[-1]).tolist(),
            "fixed": {
                str(int(size)): (share * c + (1 - share) * f).tolist()
                for size, c, f in zip(sizes, coarse, fine, strict=True)
            },
        }
    return result


def _ends(record: Record, pool: str) -> tuple[Any, Any]:
    return ends(record["knn"][pool])


def ahead(workload: Mapping[str, Any], name: str, pool: str) -> NDArray[np.bool_]:
    """At which shares of coarse queries `name`, adaptive, beats every MRL prefix. [shares]."""
    best = np.max(list(workload["mrl"][pool]["fixed"].values()), axis=0)
    return np.array(workload[name][pool]["adaptive"]) > best


def _spans(met: NDArray[np.bool_], shares: Sequence[float]) -> str | None:
    """The shares that are met, neighbours as one span; None = none is."""
    edges = np.flatnonzero(np.diff(np.pad(met.astype(int), 1))).reshape(-1, 2)
    spans = [(shares[first], shares[end - 1]) for first, end in edges]
    return ", ".join(f"{a:g}" if a == b else f"{a:g} to {b:g}" for a, b in spans) or None


def _confidence(runs: list[Run]) -> dict[str, Any]:
    """Accuracy and size of each way, means over the seeds."""
    first = runs[0][0]["routing"]
    paths: list[tuple[str, ...]] = [("fixed", size) for size in first["fixed"]]
    paths += [("routed", f"{t:.1f}") for t in THRESHOLDS] + [("reranked",)]
    return {
        " ".join(path): {
            key: float(np.mean(by_seed(runs, "routing", *path, key)))
            for key in ("accuracy", "size")
        }
        for path in paths
    }
