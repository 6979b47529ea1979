"""Plots of the study of the interference field, made from its record alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.interference.page import PLOTS
from train.report_plots import Plot, Record, save

_NOT_TRIED = {"difference": None}
FIELD, BESIDE, CHANCE = "#c8553d", "#1f5fa8", "#8f8f8f"


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the plots of all parts that the record has and has a set for; returns their files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    wanted = [
        name
        for part, names in PLOTS.items()
        if any(record.get(part, {}).get(key) for key in ("sets", "alone", "features"))
        for name in names
    ]
    return save(record, folder, ((name, _PLOTS[name]) for name in wanted))


def _rankers(record: Record, plt: Any) -> Any:
    """NDCG@10 and long-tail recall of every ranker alone."""
    panels = [
        (f"{name}, {space}", found["rankers"])
        for name, of in record["rankers"]["sets"].items()
        for space, found in of["spaces"].items()
    ]
    figure, axes = plt.subplots(
        2, len(panels), figsize=(2.3 * len(panels) + 1.6, 5.6), sharey="row", squeeze=False
    )
    for column, (title, rankers) in enumerate(panels):
        for row, (key, words) in enumerate((("ndcg_10", "NDCG@10"), ("tail_50", "LT recall@50"))):
            axis = axes[row, column]
            names = list(rankers)
            means = [rankers[name][key]["mean"] for name in names]
            errors = [2 * (rankers[name][key]["error"] or 0) for name in names]
            colors = [FIELD if n.startswith("field") else BESIDE for n in names]
            colors[names.index("random")] = CHANCE
            axis.barh(names, means, xerr=errors, color=colors, error_kw={"lw": 0.8})
            axis.axvline(means[names.index("random")], color=CHANCE, lw=0.8, ls=":")
            axis.set_xlabel(f"{words}, ± 2 SE")
            if row == 0:
                axis.set_title(title)
    for axis in axes[:, 0]:
        axis.invert_yaxis()
    figure.tight_layout()
    return figure


def _lift(record: Record, plt: Any) -> Any:
    """What features add, of viewers with all of their history and with eight likes."""
    return _added(record, plt, {"features": "all history", "cold_start": "eight likes"})


def _learned(record: Record, plt: Any) -> Any:
    """What features add in spaces that the product's models learn: to trees, and to the ranker."""
    return _added(record, plt, {"spaces": "trees", "phoenix": "ranker"})


def _added(record: Record, plt: Any, parts: Mapping[str, str]) -> Any:
    """Differences of arms in parts of the study, a panel a part and measure."""
    pairs = ("local − base", "kernel − base", "field − base", "field − local", "field − kernel")
    panels = [
        (key, words, part, when)
        for key, words in (("ndcg_10", "NDCG@10"), ("tail_50", "LT recall@50"))
        for part, when in parts.items()
        if part in record
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.9 * len(panels) + 1.4, 4.4), sharey=True, squeeze=False
    )
    colors: dict[str, str] = {}
    for axis, (key, words, part, when) in zip(axes[0], panels, strict=True):
        places = [(n, s, of) for n, by in record[part]["sets"].items() for s, of in by.items()]
        for at, (name, space, of) in enumerate(places):
            found = [of["differences"][key].get(pair, _NOT_TRIED) for pair in pairs]
            y = np.arange(len(pairs)) + 0.12 * (at - (len(places) - 1) / 2)
            color = colors.setdefault(f"{name}, {space}", f"C{len(colors)}")
            _whiskers(axis, found, y, color, f"{name}, {space}")
        axis.set_yticks(range(len(pairs)), pairs)
        axis.set_title(f"{words}, {when}")
        axis.locator_params(axis="x", nbins=4)
        axis.axvline(0, color="black", lw=0.6)
    axes[0, 0].invert_yaxis()
    told = {
        label: handle
        for axis in axes[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(told.values(), told.keys(), ncol=4, loc="lower center", frameon=False)
    rows = -(-len(told) // 4)
    figure.tight_layout(rect=(0, 0.02 + 0.055 * rows, 1, 1))
    return figure


def _dimension(record: Record, plt: Any) -> Any:
    """Agreement of halves, and how estimates grow with the history."""
    places = [
        (f"{name}, {space}", of)
        for name, by in record["dimension"]["sets"].items()
        for space, of in by["spaces"].items()
    ]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    kinds = (("slope", FIELD, "TwoNN"), ("cap", BESIDE, "participation ratio"))
    for step, (key, color, words) in enumerate(kinds):
        found = [of[key]["halves"] for _, of in places]
        found = [f | {"difference": f["r"]} for f in found]
        _whiskers(axes[0], found, np.arange(len(places)) + 0.2 * (step - 0.5), color, words)
        for at, (_, of) in enumerate(places):
            line = of[key]["by_length"]
            axes[1].plot(
                [int(n) for n in line],
                list(line.values()),
                "os^Dv"[at % 5] + ("-" if key == "slope" else "--"),
                color=color,
                ms=4,
            )
    axes[0].set_yticks(range(len(places)), [name for name, _ in places])
    axes[0].invert_yaxis()
    axes[0].axvline(0, color="black", lw=0.6)
    axes[0].set_xlabel("r of two halves of a history, over viewers")
    axes[0].legend(frameon=False)
    axes[1].set_xscale("log")
    axes[1].set_xlabel("newest likes (a mark a set and space)")
    axes[1].set_ylabel("mean estimate")
    figure.tight_layout()
    return figure


def _feedback(record: Record, plt: Any) -> Any:
    """AUC of later likes over later dislikes."""
    sets = record["feedback"]["sets"]
    figure, axes = plt.subplots(
        1, len(sets), figsize=(2.5 * len(sets) + 1.8, 3.4), sharey=True, squeeze=False
    )
    for axis, (name, of) in zip(axes[0], sets.items(), strict=True):
        names = list(of["auc"])
        means = [of["auc"][n]["mean"] for n in names]
        errors = [2 * (of["auc"][n]["error"] or 0) for n in names]
        colors = [FIELD if "field" in n else BESIDE for n in names]
        axis.barh(names, means, xerr=errors, color=colors, error_kw={"lw": 0.8})
        axis.axvline(0.5, color=CHANCE, lw=0.8, ls=":")
        axis.set_xlim(0.35, 1)
        axis.set_title(f"{name}, {of['auc'][names[0]]['num']} viewers")
        axis.set_xlabel("AUC, ± 2 SE")
    axes[0, 0].invert_yaxis()
    figure.tight_layout()
    return figure


def _ablations(record: Record, plt: Any) -> Any:
    """Each change of the field, alone and as features."""
    part = record["ablations"]
    panels = [
        (f"alone, {space}: {words}", of["differences"][key])
        for space, of in part["alone"].items()
        for key, words in (("ndcg_10", "NDCG@10"),)
    ] + [
        (f"features, {regime}: {words}", of["differences"][key])
        for regime, of in part["features"].items()
        for key, words in (("ndcg_10", "NDCG@10"),)
    ]
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(11, 8), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, found) in zip(axes.flat, panels, strict=False):
        _whiskers(axis, list(found.values()), np.arange(len(found)), FIELD, None)
        axis.set_yticks(range(len(found)), [name.replace(" − base", "") for name in found])
        axis.invert_yaxis()
        axis.axvline(0, color="black", lw=0.6)
        axis.set_title(title)
        axis.locator_params(axis="x", nbins=5)
    figure.tight_layout()
    return figure


def _whiskers(axis: Any, found: Sequence[Any], y: Any, color: str, label: str | None) -> None:
    """Differences with their intervals; null values are left out."""
    rows = [(of, at) for of, at in zip(found, y, strict=True) if of["difference"] is not None]
    if not rows:
        return
    middle = np.array([of["difference"] for of, _ in rows])
    low, high = (np.array([of[key] for of, _ in rows]) for key in ("low", "high"))
    # The mean is not always within quantiles of its draws, by a rounding.
    errors = np.maximum([middle - low, high - middle], 0)
    axis.errorbar(
        middle,
        [at for _, at in rows],
        xerr=errors,
        fmt="o",
        ms=3,
        lw=1,
        capsize=2,
        color=color,
        label=label,
    )


_PLOTS: dict[str, Plot] = {
    "rankers": _rankers,
    "lift": _lift,
    "learned": _learned,
    "dimension": _dimension,
    "feedback": _feedback,
    "ablations": _ablations,
}
