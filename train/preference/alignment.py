"""How a set of action weights stands to what stakeholders want, in closed form.

A weight set and a stakeholder are vectors over the 18 actions; their cosine says whether learning
the one serves the other. Nothing is sampled but the interval of a cosine: how it moves when each
of the stakeholder's weights is off by a factor of its own.

Axes: A actions, as in `stakeholders.synthetic.ACTION_NAMES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import near_miss
from train.preference.space import cosine
from train.preference.stakeholders.synthetic import (
    ACTION_NAMES,
    ALPHA,
    NEGATIVE,
    POSITIVE,
    action_weights,
    mask,
)

Floats = NDArray[np.float64]

LARGEST, SMALLEST = 1e100, 1e-100  # of weights: beyond them squares of weights are no numbers
LOW_RISK = 0.3  # a cosine above it; below 0 serving the one harms the other
SIGMA, NUM_DRAWS = 0.3, 2_000  # of stakeholders' weights that are said wrongly
_NEGATIVE = mask(NEGATIVE)


def vector(weights: Mapping[str, float], place: str) -> Floats:
    """Weights by action as a vector; actions that are not named weigh nothing. [A].

    Seconds of dwell are left out: no stakeholder here has a view on them.

    Raises:
        ValueError: a name that is no action, a weight that is no number or beyond LARGEST, or
            weights without a direction: all 0, or none above SMALLEST.
    """
    for name, value in weights.items():
        if name not in (*ACTION_NAMES, "dwell_time"):
            near = near_miss(str(name), ACTION_NAMES)
            raise ValueError(f"{place}: {name}: no such action{near}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{place}: {name}: {value!r} is no number")
        if not abs(value) <= LARGEST:
            told = "is not finite" if value != value or abs(value) == math.inf else "is too large"
            raise ValueError(f"{place}: {name}: a weight {told} (allowed: up to {LARGEST:g})")
    made = np.array([float(weights.get(name, 0.0)) for name in ACTION_NAMES])
    if not (np.abs(made) > SMALLEST).any():
        raise ValueError(f"{place}: all weights are 0, so there is no direction to audit")
    return made


def known_actions(weights: Mapping[str, float]) -> dict[str, float]:
    """Those of a blend that a stakeholder may have a view on, so not a reader's own actions."""
    return {name: value for name, value in weights.items() if name in ACTION_NAMES}


def stakeholders(names: tuple[str, ...] = tuple(ALPHA)) -> dict[str, Floats]:
    """The built-in ones: +1 for what viewers want, -alpha for what they do not. [A] each.

    Raises:
        ValueError: a name that there is not.
    """
    for name in names:
        if name not in ALPHA:
            raise ValueError(f"{name!r}: no such stakeholder{near_miss(name, ALPHA)}")
    return {name: action_weights(ALPHA[name]) for name in names}


def risk(value: float) -> str:
    """`goodhart` below 0, `low` above LOW_RISK, else `moderate`."""
    return "goodhart" if value < 0 else "low" if value > LOW_RISK else "moderate"


def closed_form(alpha: float, alpha_other: float, neutral: float = 0.0) -> float:
    """Cosine of (+1, neutral, -alpha) and (+1, 0, -alpha_other) over 5, 9 and 4 actions."""
    p, n, free = len(POSITIVE), len(NEGATIVE), len(ACTION_NAMES) - len(POSITIVE) - len(NEGATIVE)
    one = math.sqrt(p + n * alpha**2 + free * neutral**2)
    return (p + n * alpha * alpha_other) / (one * math.sqrt(p + n * alpha_other**2))


def flips_at(weights: Floats, wanted: Floats) -> float | None:
    """The common weight of negative actions at which the cosine is 0; None = there is none.

    For +1 on the five positive actions it is +5 / (4 alpha), whatever the neutral ones weigh.
    """
    slope = float(wanted[_NEGATIVE].sum())
    rest = float((weights * wanted)[~_NEGATIVE].sum())
    return None if slope == 0 else -rest / slope


def audit(
    weights: Floats,
    wanted: Mapping[str, Floats],
    scale: Floats | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All that is said of a weight set.

    Args:
        weights: [A].
        wanted: stakeholder -> weights. [A] each.
        scale: how much each action's probability varies between posts: a weight counts by weight
            times scale, as it does in an order of posts. None = all alike. [A].
        seed: of the intervals' draws.

    Returns:
        stakeholders: of each the cosine, its interval and risk, where the sign flips, each
        action's part of the cosine, the driver (the action whose weight, changed alone, would
        raise the cosine most), and what a safer weight of it would be and cost; pairs:
        cosines of stakeholders among themselves; worst: the lowest cosine's stakeholder.

    Raises:
        ValueError: of the weights, or of a stakeholder, the scale leaves nothing.
    """
    unit = np.ones(len(ACTION_NAMES)) if scale is None else scale
    theirs = {name: w * unit for name, w in wanted.items()}
    for name, left in {"the weights": weights * unit, **theirs}.items():
        if not (np.abs(left) > SMALLEST).any():
            raise ValueError(f"scale: {name}: no action that counts varies between posts")
    found = {name: _one(name, weights, theirs, unit, seed) for name in theirs}
    names = list(theirs)
    pairs = {
        f"{a} / {b}": _with_interval(theirs[a], theirs[b], seed)
        for at, a in enumerate(names)
        for b in names[at + 1 :]
    }
    worst = min(found, key=lambda name: found[name]["cosine"])
    return {
        "weights": dict(zip(ACTION_NAMES, weights.tolist(), strict=True)),
        "scaled": scale is not None,
        "stakeholders": found,
        "pairs": pairs,
        "worst": worst,
        "risk": found[worst]["risk"],
    }


def summary(weights: Mapping[str, float]) -> dict[str, Any]:
    """What a bundle's card says of its blend; actions of a reader's own are left out.

    Where no weight is left there is no direction, and `risk` is None.
    """
    known = known_actions(weights)
    if not any(known.values()):
        return {"risk": None}
    found = audit(vector(known, "blend"), stakeholders())
    kept = ("cosine", "low", "high", "risk", "driver", "flips_at")
    rows = {name: {key: of[key] for key in kept} for name, of in found["stakeholders"].items()}
    return {"stakeholders": rows, "worst": found["worst"], "risk": found["risk"]}


def _one(
    name: str, weights: Floats, theirs: Mapping[str, Floats], unit: Floats, seed: int
) -> dict[str, Any]:
    ours, wanted = weights * unit, theirs[name]
    value = float(cosine(ours, wanted))
    part = ours * wanted / (np.linalg.norm(ours) * np.linalg.norm(wanted))
    driver = int(_attainable(ours, wanted).argmax())
    return {
        **_with_interval(ours, wanted, seed),
        "risk": risk(value),
        "flips_at": flips_at(weights, wanted * unit),
        "driver": ACTION_NAMES[driver],
        "contributions": dict(zip(ACTION_NAMES, part.tolist(), strict=True)),
        "safer": _safer(name, ours, theirs, unit, driver) if value <= LOW_RISK else None,
    }


def _attainable(ours: Floats, wanted: Floats) -> Floats:
    """The best cosine that each action's weight, changed alone, can bring. [A].

    With the others' product r = sum w s and square q = sum w^2 it is sqrt(r^2 / q + s^2) / |s|,
    at v = s q / r; where r is not above 0 it is approached as v grows.
    """
    rest = ours @ wanted - ours * wanted
    square = np.maximum(ours @ ours - ours**2, 1e-300)
    best = np.where(rest > 0, rest, 0.0) ** 2 / square + wanted**2
    return np.sqrt(best) / np.linalg.norm(wanted)


def _with_interval(a: Floats, b: Floats, seed: int) -> dict[str, float]:
    """A cosine, and where 95 % of it lies when b's weights are off by N(1, SIGMA^2) each."""
    eps = np.random.default_rng(seed).normal(0, SIGMA, (NUM_DRAWS, len(b)))
    low, high = np.quantile(cosine(a[None], b * (1 + eps)), [0.025, 0.975])
    return {"cosine": float(cosine(a, b)), "low": float(low), "high": float(high)}


def _safer(
    name: str, ours: Floats, theirs: Mapping[str, Floats], unit: Floats, action: int
) -> dict[str, Any]:
    """The nearest weight of one action that brings the cosine to LOW_RISK, and its price.

    (a + v s)^2 = c^2 (b + v^2) |s|^2, with a + v s > 0, solved for v.

    Returns:
        action, weight (None: that action alone cannot do it) and, by stakeholder, how much the
        cosine changes; `kept` is the cosine of the new weights to the old.
    """
    wanted = theirs[name]
    rest, own = float(ours @ wanted - ours[action] * wanted[action]), float(wanted[action])
    square = float(ours @ ours - ours[action] ** 2)
    need = LOW_RISK**2 * float(wanted @ wanted)
    roots = np.roots([own**2 - need, 2 * rest * own, rest**2 - need * square])
    real = [r.real for r in roots if abs(r.imag) < 1e-9 and rest + r.real * own > 0]
    told: dict[str, Any] = {"action": ACTION_NAMES[action], "weight": None}
    if not real or unit[action] == 0:
        return told
    changed = ours.copy()
    changed[action] = min(real, key=lambda r: abs(r - ours[action]))
    change = {other: float(cosine(changed, w) - cosine(ours, w)) for other, w in theirs.items()}
    weight = float(changed[action] / unit[action])
    return told | {"weight": weight, "change": change, "kept": float(cosine(changed, ours))}
