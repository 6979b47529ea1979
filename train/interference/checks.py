"""What the study must show, each with its bar, the value and whether it is met.

A check that a part was not run for, or whose set is not there, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from train.interference.measures import MEASURES
from train.interference.parts.published import largest
from train.interference.parts.rankers import waves_name

Check = dict[str, Any]


def checks(results: Mapping[str, Any]) -> list[Check]:
    """All checks that the results allow."""
    found: list[Check] = []
    for group in (_published, _chance, _guarded):
        try:
            found += list(group(results))
        except KeyError:
            continue
    return found


def _check(name: str, bar: str, value: Any, met: bool) -> Check:
    return {"check": name, "bar": bar, "value": value, "met": bool(met)}


def _most(name: str, value: float, bar: float) -> Check:
    return _check(name, f"≤ {bar:g}", value, value <= bar)


def _least(name: str, value: float, bar: float) -> Check:
    return _check(name, f"≥ {bar:g}", value, value >= bar)


def _published(results: Mapping[str, Any]) -> Iterator[Check]:
    for name, of in results["published"]["sets"].items():
        if not of["differences"]:
            continue
        for of_mlp, words, bar in ((False, "cosine and field", 0.002), (True, "network", 0.01)):
            if name == "ml-1m":
                bar = 0.015 if of_mlp else 0.001
            value = largest(of["differences"], of_mlp=of_mlp)
            check = _most(f"{name}, {words}: largest distance from the original", value, bar)
            yield check | ({"aim": True} if name == "ml-1m" else {})


def _chance(results: Mapping[str, Any]) -> Iterator[Check]:
    for name, of in results["published"]["sets"].items():
        drawn = of["rankers"]["random"]
        apart = max(
            abs(drawn[key]["mean"] - of["chance"][key]) / drawn[key]["error"]
            for key in MEASURES
            if drawn[key]["error"]  # none where all viewers are alike
        )
        yield _most(f"{name}, random order: standard errors from chance", apart, 3)


def _guarded(results: Mapping[str, Any]) -> Iterator[Check]:
    rankers = results["rankers"]["sets"]["ml-100k"]["spaces"]["als"]["rankers"]
    bars = {
        "field, principal waves": 0.050,
        waves_name(8): 0.085,
        waves_name(64): 0.085,
        "kernel, ¼ median": 0.13,
    }
    for name, bar in bars.items():
        yield _least(f"ml-100k, {name}: NDCG@10", rankers[name]["ndcg_10"]["mean"], bar)
