"""Plots of the study of preferences, made from its record alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from train.preference.alignment import closed_form
from train.report_plots import Plot, Record, save

COLORS = ("#1f5fa8", "#c8553d", "#0b6e4f", "#7b3fa0", "#b59f3b")
COSINE_COLORS = {
    "raw": "#8f8f8f",
    "trained": "#c8553d",
    "covariance": "#1f5fa8",
    "covariance_true": "#7fb2e5",
}


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the plots of all parts that the record has; returns their files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return save(record, folder, ((name, PLOTS[name]) for name in names(record)))


def names(record: Record) -> list[str]:
    """Plots that the record has something for."""
    needs = {"real": record["real"], "audit": True, "constrained": _rules(record)}
    return [name for name in PLOTS if needs.get(name, record["sets"])]


def _panels(record: Record, plt: Any, height: float) -> tuple[Any, list[tuple[str, Any, Any]]]:
    """A panel a set."""
    sets = record["sets"]
    figure, axes = plt.subplots(1, len(sets), figsize=(3.6 * len(sets), height), squeeze=False)
    return figure, [
        (name, of, axis) for (name, of), axis in zip(sets.items(), axes[0], strict=True)
    ]


def _predictors(record: Record, plt: Any) -> Any:
    """How often each cosine's sign is right, by its size; T = 1."""
    figure, panels = _panels(record, plt, 3.6)
    for name, of, axis in panels:
        bins = of["predictors"]["selections"]["T=1"]["bins"]
        for at, (kind, by) in enumerate(bins.items()):
            x = np.arange(len(by)) + 0.08 * (at - 1.5)
            share, low, high = (
                np.array([row[key] for row in by.values()], float)
                for key in ("share", "low", "high")
            )
            error = np.clip([share - low, high - share], 0, None)
            axis.errorbar(
                x, share, error, fmt="o", ms=4, capsize=2, color=COSINE_COLORS[kind], label=kind
            )
        axis.axhline(0.5, color="#333333", ls=":", lw=1)
        axis.set_xticks(range(len(by)), [key.replace(" to ", "–") for key in by], fontsize=8)
        axis.set(title=name, xlabel="|cosine|", ylim=(0, 1.03))
    panels[0][2].set_ylabel("share of signs told right, T = 1")
    panels[0][2].legend(frameon=False, fontsize=8, loc="lower right")
    figure.tight_layout()
    return figure


def _budget(record: Record, plt: Any) -> Any:
    """Regret by pairs of the one left out."""
    figure, panels = _panels(record, plt, 3.6)
    for name, of, axis in panels:
        for color, (who, row) in zip(COLORS, of["budget"].items(), strict=False):
            axis.plot(
                range(len(row["pairs"])), row["published"], "o--", ms=3, color=color, alpha=0.6
            )
            axis.plot(
                range(len(row["pairs"])), row["norm_matched"], "o-", ms=3, color=color, label=who
            )
            axis.axhline(row["oracle"], color=color, ls=":", lw=1)
        axis.set(title=name, xlabel="pairs of the one left out")
        axis.set_xticks(range(len(row["pairs"])), [str(num) for num in row["pairs"]])
        axis.legend(frameon=False, fontsize=8)
    panels[0][2].set_ylabel("regret (dashed: as published;\ndotted: with the true weights)")
    figure.tight_layout()
    return figure


def _decoupling(record: Record, plt: Any) -> Any:
    """What the hidden stakeholder gets by steps, a line a number of pairs."""
    sets = record["sets"]
    figure, axes = plt.subplots(2, len(sets), figsize=(3.6 * len(sets), 5.6), squeeze=False)
    for column, (name, of) in enumerate(sets.items()):
        part = of["decoupling"][0]
        for row, (key, words) in enumerate(
            (("value", "raw scores"), ("unit_value", "unit scores"))
        ):
            axis = axes[row, column]
            for color, num in zip(
                COLORS, sorted({c["pairs"] for c in part["cells"]}), strict=False
            ):
                cells = [cell for cell in part["cells"] if cell["pairs"] == num]
                steps, values = ([cell[k] for cell in cells] for k in ("steps", key))
                axis.plot(steps, values, "o-", ms=3, color=color, label=f"{num:,} pairs")
            axis.set(xscale="log", title=f"{name}: {part['target']} > {part['hidden']}, {words}")
            axis.set_xticks(steps, [f"{step:,}" for step in steps])
            axis.minorticks_off()
            axis.title.set_fontsize(8)
        axes[1, column].set_xlabel("optimiser steps")
    axes[0, 0].legend(frameon=False, fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("worth to the hidden one, T = 1")
    figure.tight_layout()
    return figure


def _rules(record: Record) -> list[dict[str, Any]]:
    """Rows of the constrained loss, of the set that has them."""
    return [row for of in record["sets"].values() for row in of.get("constrained", ())]


def _constrained(record: Record, plt: Any) -> Any:
    """How far the rules turn what is learned, by start and number of pairs."""
    rows = _rules(record)
    figure, axis = plt.subplots(figsize=(5.6, 2.8), layout="constrained")
    names = [f"{row['stakeholder']}, {row['pairs']:,} pairs" for row in rows]
    order = list(dict.fromkeys(names))
    for at, start in enumerate(dict.fromkeys(row["start"] for row in rows)):
        mine = [
            (n, row["cosine"]) for n, row in zip(names, rows, strict=True) if row["start"] == start
        ]
        axis.plot(
            [cosine for _, cosine in mine],
            [order.index(name) for name, _ in mine],
            "o",
            ms=9 - 4 * at,
            fillstyle="full" if at else "none",  # rings, so that equal ones are both seen
            color=COLORS[at],
            label=f"{start} start",
        )
    axis.set_yticks(range(len(order)), order)
    axis.set(xlabel="cosine of the constrained loss's weights to Bradley-Terry's")
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8)
    return figure


def _frontier(record: Record, plt: Any) -> Any:
    """Worth to each stakeholder along the weights of diversity."""
    figure, panels = _panels(record, plt, 3.4)
    for name, of, axis in panels:
        points = np.array(of["frontier"])
        for color, who, values in zip(COLORS, of["stakeholders"], points.T, strict=False):
            axis.plot(np.linspace(0, 1, len(points)), values, color=color, label=who)
        axis.set(title=name, xlabel="weight of diversity")
        axis.legend(frameon=False, fontsize=8)
    panels[0][2].set_ylabel("worth of ten items, scored by all")
    figure.tight_layout()
    return figure


def _audit(record: Record, plt: Any) -> Any:
    """Society's cosine by the platform's weight of negative actions."""
    figure, axis = plt.subplots(figsize=(5.2, 3.2))
    weights = np.linspace(-2, 1.5, 200)  # of each of the four; +1 on five, as published
    for color, alpha in zip(COLORS, (4.0, 1.0, 0.3), strict=False):
        values = [closed_form(-weight, alpha) for weight in weights]
        axis.plot(weights, values, color=color, label=f"α = {alpha:g}")
        flip = record["audit"]["flips_at"][f"{alpha:g}"]
        if flip < weights[-1]:
            axis.plot([flip], [0], "o", color=color)
            axis.annotate(f"{flip:+.4f}", (flip, 0.04), color=color, fontsize=8)
    axis.axhline(0, color="#333333", lw=1)
    axis.set(xlabel="weight of every negative action", ylabel="cosine with the stakeholder")
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def _real(record: Record, plt: Any) -> Any:
    """Accuracy of each score on pairs that people showed."""
    sources = real_sources(record)
    figure, axes = plt.subplots(1, len(sources), figsize=(3.9 * len(sources), 3), squeeze=False)
    for axis, (name, of) in zip(axes[0], sources.items(), strict=True):
        rows = of["accuracy"]
        value, low, high = (
            np.array([row[key] for row in rows.values()]) for key in ("accuracy", "low", "high")
        )
        error = np.clip([value - low, high - value], 0, None)
        axis.errorbar(value, range(len(rows)), xerr=error, fmt="o", capsize=3, color=COLORS[0])
        axis.set_yticks(range(len(rows)), [key.replace("_", " ") for key in rows])
        axis.axvline(0.5, color="#333333", ls=":", lw=1)
        axis.set(title=name, xlabel="pairs told right")
        axis.invert_yaxis()
    figure.tight_layout()
    return figure


def real_sources(record: Record) -> dict[str, Any]:
    """Each log of real preferences by name, those of one release of MovieLens by its own."""
    found: dict[str, Any] = {}
    for source, of in record["real"].items():
        found |= {source: of} if "accuracy" in of else dict(of)
    return found


PLOTS: dict[str, Plot] = {
    "predictors": _predictors,
    "decoupling": _decoupling,
    "budget": _budget,
    "frontier": _frontier,
    "constrained": _constrained,
    "audit": _audit,
    "real": _real,
}
