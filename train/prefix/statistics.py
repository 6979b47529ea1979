"""Whether differences between conditions are more than chance: pure functions of numbers.

Values are paired by seed, one a run. Seeds share test texts, so a p value over seeds says how sure
it is that another draw of the split and of the weights gives the same sign, not that other texts
would: the bootstrap draws those, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

NUM_ROUNDS = 2_000
_ROUNDING = 1e-12  # of the largest value: less spread than that is none


def paired_t(a: ArrayLike, b: ArrayLike) -> dict[str, float]:
    """Two-sided paired t test of a - b, and d = mean / sd of the differences.

    Returns:
        difference, sd (n - 1), d, t, p, num; d, t and p are NaN with fewer than two pairs or
        without any spread beyond rounding.

    Raises:
        ValueError: not as many of one as of the other.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} values beside {len(b)}, expected pairs")
    delta = a - b
    num = len(delta)
    sd = float(delta.std(ddof=1)) if num > 1 else float("nan")
    rounding = _ROUNDING * max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    d = float(delta.mean()) / sd if num > 1 and sd > rounding else float("nan")
    t = d * num**0.5
    p = float(2 * stats.t.sf(abs(t), num - 1)) if np.isfinite(t) else float("nan")
    mean = float(delta.mean())
    return {"difference": mean, "sd": sd, "d": d, "t": t, "p": p, "num": num}


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Corrects p values by name for their number (Holm 1979); NaN stays and does not count.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1.
    """
    known = sorted((value, name) for name, value in p.items() if np.isfinite(value))
    corrected, largest = {}, 0.0
    for at, (value, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - at) * value))
        corrected[name] = largest
    return {name: corrected.get(name, float("nan")) for name in p}


def random_effects(effects: ArrayLike, variances: ArrayLike) -> dict[str, float]:
    """Mean effect of several studies that differ among themselves (DerSimonian and Laird 1986).

    tau2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w)) with w = 1 / v and Q the weighted
    squares around the fixed mean; studies then weigh 1 / (v + tau2).

    Returns:
        effect, low and high (95 %), z, p, tau2, i2 (share, not percent), q and num.
    """
    y, v = np.asarray(effects, np.float64), np.asarray(variances, np.float64)
    w, k = 1 / v, len(y)
    q = float(w @ (y - w @ y / w.sum()) ** 2)
    spread = float(w.sum() - (w @ w) / w.sum())
    tau2 = max(0.0, (q - (k - 1)) / spread) if k > 1 else 0.0
    w = 1 / (v + tau2)
    effect, se = float(w @ y / w.sum()), float(w.sum() ** -0.5)
    return {
        "effect": effect,
        "low": effect - 1.959964 * se,
        "high": effect + 1.959964 * se,
        "z": effect / se,
        "p": float(2 * stats.norm.sf(abs(effect / se))),
        "tau2": tau2,
        "i2": max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0,
        "q": q,
        "num": k,
    }


def meta_of_pairs(differences: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Random effects over sets of the standardised paired difference, corrected for few seeds.

    g = J d with J = 1 - 3 / (4 (n - 1) - 1), and variance J^2 (1 / n + d^2 / (2 n)).

    Args:
        differences: set -> paired differences, one a seed; sets with fewer than three seeds, of
            which J makes nothing, or with no spread are left out.
    """
    effects, variances = [], []
    for values in differences.values():
        test = paired_t(values, np.zeros(len(np.asarray(values))))
        n, d = test["num"], test["d"]
        if n > 2 and np.isfinite(d):
            small = 1 - 3 / (4 * (n - 1) - 1)
            effects.append(small * d)
            variances.append(small**2 * (1 / n + d**2 / (2 * n)))
    return random_effects(effects, variances) if effects else {"num": 0}


def sign_test(differences: ArrayLike) -> dict[str, float]:
    """Exact two-sided sign test; zeros do not count."""
    delta = np.asarray(differences, np.float64)
    positive, num = int((delta > 0).sum()), int((delta != 0).sum())
    p = float(stats.binomtest(positive, num).pvalue) if num else float("nan")
    return {"positive": positive, "num": num, "p": p}


def paired_bootstrap(
    differences: Sequence[ArrayLike], same_items: bool, num_rounds: int = NUM_ROUNDS, seed: int = 0
) -> dict[str, float]:
    """95 % percentile interval of a mean difference when seeds and test items are drawn anew.

    Args:
        differences: per seed, the difference of two conditions on each test item.
        same_items: whether item i is the same in every seed: then one draw of items serves all
            seeds of a round, else items are drawn within each seed.
        num_rounds: draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    per_seed = [np.asarray(values, np.float64) for values in differences]
    num = len(per_seed)
    times = rng.multinomial(num, [1 / num] * num, size=num_rounds)  # each seed is drawn
    if same_items:
        table = np.stack(per_seed)
        rounds = np.array(
            [
                (row @ table)[rng.integers(table.shape[1], size=table.shape[1])].mean()
                for row in times
            ]
        )
    else:
        rounds = np.array([sum(_redrawn(rng, per_seed, row)) for row in times])
    rounds = rounds / num
    low, high = np.quantile(rounds, [0.025, 0.975])
    mean = float(np.mean([values.mean() for values in per_seed]))
    return {"difference": mean, "low": float(low), "high": float(high), "rounds": num_rounds}


def _redrawn(rng: np.random.Generator, per_seed: Sequence[Floats], times: NDArray) -> list[float]:
    """Means of each seed's items, drawn anew as often as the seed was."""
    return [
        float(values[rng.integers(len(values), size=len(values))].mean())
        for values, often in zip(per_seed, times, strict=True)
        for _ in range(often)
    ]


def trend(x: ArrayLike, y: ArrayLike) -> dict[str, float]:
    """Spearman's rho and Pearson's r of y against x, each with its two-sided p value."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x) < 3:
        return {"num": len(x)}
    rank, line = stats.spearmanr(x, y), stats.pearsonr(x, y)
    return {
        "rho": float(rank.statistic),
        "rho_p": float(rank.pvalue),
        "r": float(line.statistic),
        "r_p": float(line.pvalue),
        "num": len(x),
    }


def quadratic(x: ArrayLike, y: ArrayLike) -> dict[str, float]:
    """Least squares of y = a x^2 + b x + c: a, b, c, R2 and where it peaks (NaN if it does not)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a, b, c = np.polyfit(x, y, 2)
    left = float(((y - np.polyval([a, b, c], x)) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    return {
        "a": float(a),
        "b": float(b),
        "c": float(c),
        "r2": 1 - left / total if total else float("nan"),
        "peak": float(-b / (2 * a)) if a < 0 else float("nan"),
    }


def peak_interval(
    x: ArrayLike, y: ArrayLike, num_rounds: int = NUM_ROUNDS, seed: int = 0
) -> dict[str, Any]:
    """Where a quadratic through the seeds' means peaks, and how sure that is.

    Args:
        x: one value a point [P].
        y: one curve a seed [S, P].
        num_rounds: draws of seeds.
        seed: of the draws.

    Returns:
        The fit of the mean curve, `peak_low` and `peak_high` (95 %, over fits that peak, seeds
        drawn anew) and `share_peaked`, how many of the fits do.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    rng = np.random.default_rng(seed)
    drawn = y[rng.integers(len(y), size=(num_rounds, len(y)))].mean(axis=1)  # [rounds, P]
    a, b, _ = np.polyfit(x, drawn.T, 2)
    known = -b[a < 0] / (2 * a[a < 0])
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return {
        **quadratic(x, y.mean(axis=0)),
        "peak_low": float(low),
        "peak_high": float(high),
        "share_peaked": len(known) / num_rounds,
    }


def summary(values: ArrayLike) -> dict[str, float]:
    """Mean, standard deviation (n - 1) and half the width of the 95 % interval by t."""
    values = np.asarray(values, np.float64)
    num = len(values)
    sd = float(values.std(ddof=1)) if num > 1 else float("nan")
    half = float(stats.t.ppf(0.975, num - 1)) * sd / num**0.5 if num > 1 else float("nan")
    return {"mean": float(values.mean()), "sd": sd, "half": half, "num": num}


def pooled_sd(a: ArrayLike, b: ArrayLike) -> float:
    """Root of the mean of two variances (n - 1)."""
    variances = [np.asarray(values, np.float64).var(ddof=1) for values in (a, b)]
    return float(np.mean(variances) ** 0.5)
