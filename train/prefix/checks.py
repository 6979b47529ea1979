"""What the study must show on CLINC-150, each with its bar, the value and whether it is met.

A check that a part was not run for, or whose condition was not, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from train.prefix.statistics import pooled_sd

Results = dict[str, Any]
Check = dict[str, Any]
_PARAMETERS = 2_066_592  # of V5's head, 384 numbers, 10 and 150 classes


def checks(results: Results) -> list[Check]:
    """All checks that the results allow, in the order of the study."""
    groups: dict[str, tuple[Callable[[Results], Iterator[Check]], ...]] = {
        "clinc": (_parity, _bands, _ablations, _coarse, _harm, _own),
        "unseen": (_unseen,),
        "sets": (_sets,),
    }
    return [
        check
        for part, makers in groups.items()
        if part in results
        for make in makers
        for check in make(results)
    ]


def _has(results: Results, *names: str, measure: str = "s_r") -> bool:
    """Whether these conditions were run on CLINC-150, and this was measured of them."""
    conditions = results["clinc"]["conditions"]
    return all(name in conditions and measure in conditions[name]["summary"] for name in names)


def _check(name: str, bar: str, value: Any, met: bool) -> Check:
    return {"check": name, "bar": bar, "value": value, "met": bool(met)}


def _mean(results: Results, name: str, measure: str) -> float:
    return results["clinc"]["conditions"][name]["summary"][measure]["mean"]


def _within(name: str, value: float, low: float, high: float) -> Check:
    return _check(name, f"{low:g} to {high:g}", value, low <= value <= high)


def _least(name: str, value: float, bar: float) -> Check:
    return _check(name, f"≥ {bar:g}", value, value >= bar)


def _most(name: str, value: float, bar: float) -> Check:
    return _check(name, f"≤ {bar:g}", value, value <= bar)


def _parity(results: Results) -> Iterator[Check]:
    conditions = results["clinc"]["conditions"]
    if _has(results, "v5"):
        num = conditions["v5"]["num_parameters"]
        yield _check("parameters of V5's head", f"{_PARAMETERS:,}", num, num == _PARAMETERS)
    gap = max(
        abs(a - b)
        for found in conditions.values()
        for pool in ("500", "2000", "all", "train")
        if f"s_{pool}" in found["by_seed"]
        for a, b in zip(
            found["by_seed"][f"s_{pool}"], found["by_seed"][f"s_gap_{pool}"], strict=True
        )
    )
    yield _most("S_gap is S: largest difference in any run", gap, 1e-12)
    raw = conditions["raw"]["by_seed"]
    most = max(
        abs(s)
        for name, of in raw.items()
        if name.startswith("s_")
        for s in of
        if "mono" not in name
    )
    yield _most("S of the encoder itself, by any formula and pool", most, 0.0)


def _bands(results: Results) -> Iterator[Check]:
    bands = {
        "v5_legacy": {"500": (0.10, 0.16), "2000": (0.045, 0.065)},
        "v5": {"500": (0.06, 0.12), "2000": (0.035, 0.055)},
        "mrl": {"500": (-0.03, 0.03), "2000": (-0.01, 0.01)},
    }
    for name, pools in bands.items():
        for pool, (low, high) in pools.items():
            if _has(results, name, measure=f"s_{pool}"):
                value = _mean(results, name, f"s_{pool}")
                yield _within(f"S of {name}, pool {pool}", value, low, high)
    if not _has(results, "v5", "mrl"):
        return
    test = results["clinc"]["tests"]["s_train"]["v5 - mrl"]
    met = test["difference"] > 0 and (test["p"] or 1) < 0.01
    told = f"{test['difference']:+.4f}, p {_number(test['p'])}"
    yield _check("V5 > MRL, neighbours from training texts, paired", "> 0, p < 0.01", told, met)


def _ablations(results: Results) -> Iterator[Check]:
    if _has(results, "inverted", measure="s_2000"):
        yield _most("S of inverted, pool 2000", _mean(results, "inverted", "s_2000"), -0.01)
    for name in ("no_prefix", "uhmt"):
        if not _has(results, name, measure="s_2000"):
            continue
        mean = _mean(results, name, "s_2000")
        yield _within(f"S of {name}, pool 2000", mean, -0.015, 0.015)
        if not _has(results, "v5", measure="s_2000"):
            continue
        v5, other = (results["clinc"]["conditions"][n]["by_seed"]["s_2000"] for n in ("v5", name))
        apart = (_mean(results, "v5", "s_2000") - mean) / (pooled_sd(v5, other) or math.nan)
        yield _check(f"V5 above {name}, in pooled SD", "> 3", apart, apart > 3)


def _coarse(results: Results) -> Iterator[Check]:
    for name, bar in (("v5", 0.90), ("own", 0.95)):
        if _has(results, name):
            value = _mean(results, name, "r_l0_first")
            yield _least(f"R-precision L0@64 of {name}", value, bar)
    bars: dict[str, tuple[float, Callable[[str, float, float], Check]]] = {
        "v5_legacy": (0.40, _least),
        "v5": (0.20, _least),
        "own": (0.95, _least),
        "inverted": (-0.15, _most),
    }
    for name, (bar, judge) in bars.items():
        if _has(results, name):
            yield judge(f"S_R of {name}", _mean(results, name, "s_r"), bar)
    if _has(results, "mrl"):
        yield _within("S_R of mrl", _mean(results, "mrl", "s_r"), -0.05, 0.05)


def _harm(results: Results) -> Iterator[Check]:
    for name, slack in (("v5", 0.01), ("own", 0.005)):
        if not _has(results, name, "mrl"):
            continue
        for measure, words in (("l0_first_train", "L0@64"), ("l1_whole_train", "L1@256")):
            value = _mean(results, name, measure) - _mean(results, "mrl", measure)
            yield _least(f"{words} of {name} less that of MRL, training texts", value, -slack)
    if _has(results, "own"):
        value = _mean(results, "own", "l1_whole_train")
        yield _least("L1@256 of own, training texts", value, 0.943)


def _own(results: Results) -> Iterator[Check]:
    if _has(results, "own", measure="s_2000"):
        yield _least("S of own, pool 2000", _mean(results, "own", "s_2000"), 0.25)
    if _has(results, "own"):
        exact = results["clinc"]["conditions"]["own"]["exact_truncation"]
        yield _check("own: cut vectors are the prefixes, bit for bit", "yes", exact, exact)


def _unseen(results: Results) -> Iterator[Check]:
    unseen = results["unseen"]["conditions"]
    if "own" not in unseen:
        return
    value = unseen["own"]["summary"]["l0_first"]["mean"]
    yield _least("L0@64 of own, unseen intents", value, 0.70)
    for measure, words in (("l0_first", "L0@64"), ("r_l1_whole", "R-precision L1@256")):
        ours, raw = (unseen[name]["summary"][measure]["mean"] for name in ("own", "raw"))
        yield {
            **_check(
                f"{words} of own, unseen intents, against the encoder",
                "≥ 0",
                ours - raw,
                ours >= raw,
            ),
            "aim": True,
        }


def _sets(results: Results) -> Iterator[Check]:
    tests = results["sets"]["tests"]
    for texts in results["sets"]["sets"]:
        for pair in ("own - v5", "v5 - mrl"):
            if pair not in tests:
                continue
            test = tests[pair]["s_r"][texts]
            met = test["difference"] > 0 and (test["p"] or 1) < 0.05
            value = f"{test['difference']:+.3f}, p {_number(test['p'])}"
            yield _check(f"S_R, {pair}, {texts}", "> 0, p < 0.05", value, met)


def _number(p: float | None) -> str:
    return "–" if p is None or not math.isfinite(p) else f"{p:.2g}"
