"""Whether steerability grows with what the coarse label leaves open, H(L1|L0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.prefix.jobs import RAW
from train.prefix.statistics import trend
from train.report_tables import Lines, table

MEASURES = ("s_500", "s_all", "s_train", "s_r")


def results(
    found: Mapping[str, Mapping[str, Any]],
    conditions: Sequence[str],
    stories: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Correlations over the sets, of H alone and of H times the encoder's own fine accuracy.

    Args:
        found: set -> its part of the report.
        conditions: to compare, which every set has.
        stories: what the report says of each set's texts.
    """
    sets = list(found)
    values = {
        (texts, name): part["conditions"][name]["by_seed"]
        for texts, part in found.items()
        for name in (*conditions, RAW)
    }
    points = {
        texts: {
            "h_bits": stories[texts]["h_fine_given_coarse_bits"],
            "encoder_l1": _mean(values[texts, RAW]["l1_whole_train"]),
        }
        for texts in sets
    }
    for point in points.values():
        point["product"] = point["h_bits"] * point["encoder_l1"]
    known = [m for m in MEASURES if all(m in of for of in values.values())]
    means = {
        name: {m: [_mean(values[texts, name][m]) for texts in sets] for m in known}
        for name in conditions
    }
    for name, by_measure in means.items():
        for measure, of in by_measure.items():
            for texts, value in zip(sets, of, strict=True):
                points[texts][f"{name}_{measure}"] = value
    return {
        "points": points,
        "correlations": {
            f"{name}, {measure}": {
                by: trend([points[texts][by] for texts in sets], of) for by in ("h_bits", "product")
            }
            for name, by_measure in means.items()
            for measure, of in by_measure.items()
        },
    }


def section(part: Mapping[str, Any]) -> Lines:
    """Against H(L1|L0)."""
    points, correlations = part["points"], part["correlations"]
    keys = list(next(iter(points.values())))
    measures = ("rho", "rho_p", "r", "r_p", "num")
    return [
        "## Trend over the sets",
        "",
        "`product` is H(L1|L0) times the encoder's own fine accuracy. It was proposed after the "
        "fact by the original, and six sets are few.",
        "",
        *table(("set", *keys), [(name, *of.values()) for name, of in points.items()]),
        *table(
            ("", "against", *measures),
            [
                (name, by, *(test.get(m) for m in measures))
                for name, tests in correlations.items()
                for by, test in tests.items()
            ],
        ),
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
