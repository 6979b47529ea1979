"""Whether steerability grows with what the coarse label leaves open, H(L1|L0)."""

from __future__ import annotations

from typing import Any

from train.prefix.jobs import RAW
from train.prefix.scalars import all_scalars
from train.prefix.statistics import trend
from train.prefix.study import Arms, Runs, StudyConfig

MEASURES = ("s_500", "s_all", "s_train", "s_r")


def arms(study: StudyConfig) -> Arms:
    """Those of all sets."""
    return study.set_arms()


def results(study: StudyConfig, runs: Runs, stories: dict[str, Any]) -> dict[str, Any]:
    """Correlations over the sets, of H alone and of H times the encoder's own fine accuracy."""
    sets = list(dict.fromkeys(texts for texts, _ in runs))
    values = {arm: all_scalars(found) for arm, found in runs.items()}
    points = {
        texts: {
            "h_bits": stories[texts]["h_fine_given_coarse_bits"],
            "encoder_l1": _mean(values[texts, RAW]["l1_whole_train"]),
        }
        for texts in sets
    }
    for point in points.values():
        point["product"] = point["h_bits"] * point["encoder_l1"]
    means = {
        name: {m: [_mean(values[texts, name][m]) for texts in sets] for m in MEASURES}
        for name in study.set_conditions
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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
