"""Plots of the study of prefix heads, made from its record alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from train.prefix.page import PLOTS
from train.report_plots import Plot, Record, save

COLORS = {
    "own": "#0b6e4f",
    "v5": "#1f5fa8",
    "v5_legacy": "#7fb2e5",
    "mrl": "#c8553d",
    "no_prefix": "#8f8f8f",
    "uhmt": "#b59f3b",
    "inverted": "#7b3fa0",
    "raw": "#333333",
}
POOLS = {"500": "500", "2000": "2,000", "all": "all", "train": "training\ntexts"}


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the plots of all parts that the record has; returns their files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    wanted = [name for part, names in PLOTS.items() if part in record for name in names]
    return save(record, folder, ((name, _PLOTS[name]) for name in wanted))


def _curves(record: Record, plt: Any) -> Any:
    """Accuracy and R-precision at each prefix."""
    conditions = record["clinc"]["conditions"]
    panels = [
        (kind, level, f"{words}, {level}")
        for kind, words in (("knn_train", "5-NN accuracy"), ("r_precision", "R-precision"))
        for level in ("L0", "L1")
    ]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), sharex=True)
    for axis, (kind, level, title) in zip(axes.flat, panels, strict=True):
        for name, of in conditions.items():
            curve = of["curves"][kind][level]
            mean = np.array(curve["mean"])
            if name == "raw":
                axis.axhline(mean[0], color=COLORS["raw"], ls=":", lw=1.2, label="encoder, 384")
                continue
            sd = np.array(curve["sd"], float)
            axis.plot(of["sizes"], mean, "o-", ms=3, color=_color(name), label=name)
            axis.fill_between(of["sizes"], mean - sd, mean + sd, color=_color(name), alpha=0.15)
        axis.set_title(title)
        axis.set_xticks(next(of["sizes"] for n, of in conditions.items() if n != "raw"))
    for axis in axes[1]:
        axis.set_xlabel("numbers of the prefix")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncol=len(labels), loc="lower center", frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _pools(record: Record, plt: Any) -> Any:
    """S of each condition at each pool."""
    conditions = {k: v for k, v in record["clinc"]["conditions"].items() if k != "raw"}
    pools = [p for p in POOLS if f"s_{p}" in next(iter(conditions.values()))["summary"]]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(2.6, 1))
    for name, of in conditions.items():
        mean, half = (
            np.array([of["summary"][f"s_{p}"][key] for p in pools], float)
            for key in ("mean", "half")
        )
        axes[0].errorbar(
            range(len(pools)), mean, half, fmt="o-", ms=4, capsize=3, color=_color(name), label=name
        )
    axes[0].set_xticks(range(len(pools)), [POOLS[p] for p in pools])
    axes[0].set_xlabel("neighbours are the first test texts, all of them, or training texts")
    axes[0].set_ylabel("S, mean and 95 % interval")
    axes[0].axhline(0, color="black", lw=0.6)
    axes[0].legend(frameon=False, ncol=2)
    names = list(conditions)
    values = [conditions[name]["summary"]["s_r"] for name in names]
    axes[1].barh(
        range(len(names)),
        [v["mean"] for v in values],
        xerr=np.array([v["half"] for v in values], float),
        color=[_color(name) for name in names],
    )
    axes[1].set_yticks(range(len(names)), names)
    axes[1].invert_yaxis()
    axes[1].axvline(0, color="black", lw=0.6)
    axes[1].set_xlabel("S_R")
    figure.tight_layout()
    return figure


def _sets(record: Record, plt: Any) -> Any:
    """S_R by set, with intervals, and the pooled effect of each pair."""
    sets = record["sets"]["sets"]
    names = [name for name in next(iter(sets.values())) if name != "raw"]
    figure, axis = plt.subplots(figsize=(7, 0.62 * len(sets) + 1.6))
    for at, texts in enumerate(sets):
        for step, name in enumerate(names):
            value = sets[texts][name]["summary"]["s_r"]
            y = at + 0.22 * (step - (len(names) - 1) / 2)
            axis.errorbar(
                value["mean"],
                y,
                xerr=value["half"] or 0,
                fmt="s",
                ms=5,
                capsize=3,
                color=_color(name),
                label=name if at == 0 else None,
            )
    axis.axvline(0, color="black", lw=0.6)
    rows = [f"{t}\nH(L1|L0) {record['data'][t]['h_fine_given_coarse_bits']:.1f} bits" for t in sets]
    axis.set_yticks(range(len(sets)), rows)
    axis.invert_yaxis()
    axis.set_xlabel("S_R, mean and 95 % interval over seeds")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def _goldilocks(record: Record, plt: Any) -> Any:
    """S by number of random groups, for each width of the first block."""
    part = record["goldilocks"]
    conditions = part["conditions"]
    widths = next(iter(conditions.values()))
    known = next(iter(next(iter(widths.values()))["groups"].values()))["summary"]
    measures = {"s_500": "S, pool 500", "s_train": "S, training texts", "s_r": "S_R"}
    measures = {measure: title for measure, title in measures.items() if measure in known}
    rows, columns = len(conditions), len(measures)
    size = (3.4 * columns, 2.9 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True)
    for row, (name, widths) in zip(axes, conditions.items(), strict=True):
        for axis, (measure, title) in zip(row, measures.items(), strict=True):
            for style, (width, of) in zip(("o-", "s--", "^:"), widths.items(), strict=False):
                values = [v["summary"][measure] for v in of["groups"].values()]
                mean, half = (np.array([v[k] for v in values], float) for k in ("mean", "half"))
                axis.errorbar(
                    part["groups"],
                    mean,
                    half,
                    fmt=style,
                    ms=3,
                    capsize=2,
                    color=_color(name),
                    alpha=1 if style == "o-" else 0.6,
                    label=f"first block {width}",
                )
            axis.set_xscale("log", base=2)
            axis.set_xticks(part["groups"], map(str, part["groups"]), minor=False)
            axis.set_title(f"{name}: {title}")
        row[0].legend(frameon=False)
    for axis in axes[-1]:
        axis.set_xlabel("random coarse groups")
    figure.tight_layout()
    return figure


def _routing(record: Record, plt: Any) -> Any:
    """Accuracy against the share of coarse queries, and against numbers compared."""
    part = record["routing"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.9))
    for name, pools in part["workload"].items():
        of = pools["train"]
        if name == "mrl":
            best = np.max(list(of["fixed"].values()), axis=0)
            axes[0].plot(part["shares"], best, color=_color(name), label="mrl, best prefix")
        elif name in ("own", "v5", "v5_legacy"):
            axes[0].plot(part["shares"], of["adaptive"], color=_color(name), label=name)
    axes[0].set_xlabel("share of coarse queries")
    axes[0].set_ylabel("accuracy, training texts as neighbours")
    axes[0].legend(frameon=False)
    marks = {"fixed": "o", "routed": "x", "reranked": "*"}
    for name, hows in part["confidence"].items():
        if name not in ("own", "v5", "v5_legacy", "mrl"):
            continue
        for kind, mark in marks.items():
            points = [v for how, v in hows.items() if how.startswith(kind)]
            sizes, hits = ([p[key] for p in points] for key in ("size", "accuracy"))
            line = "-" if kind == "fixed" else ""
            label = name if kind == "fixed" else None
            axes[1].plot(sizes, hits, mark + line, color=_color(name), label=label, ms=6)
    axes[1].set_xlabel("numbers compared for each text\n(o fixed, x routed, * reranked)")
    axes[1].set_ylabel("accuracy of the fine label, 1,000 texts")
    axes[1].legend(frameon=False)
    figure.tight_layout()
    return figure


def _noise(record: Record, plt: Any) -> Any:
    """What wrong coarse labels leave."""
    measures = {
        "s_train": "S, training texts",
        "s_r": "S_R",
        "l0_first_train": "L0 of the first prefix",
    }
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
    for name, shares in record["noise"]["conditions"].items():
        for axis, (measure, title) in zip(axes, measures.items(), strict=True):
            values = [of["summary"][measure] for of in shares.values()]
            mean, half = (np.array([v[k] for v in values], float) for k in ("mean", "half"))
            axis.errorbar(
                [float(share) for share in shares],
                mean,
                half,
                fmt="o-",
                ms=4,
                capsize=3,
                color=_color(name),
                label=name,
            )
            axis.set_title(title)
            axis.set_xlabel("share of wrong coarse labels")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    return figure


def _color(name: str) -> str:
    return COLORS.get(name, "#555555")


_PLOTS: dict[str, Plot] = {
    "curves": _curves,
    "pools": _pools,
    "sets": _sets,
    "goldilocks": _goldilocks,
    "routing": _routing,
    "noise": _noise,
}
