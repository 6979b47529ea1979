"""Plots of the study of the interference field, made from its record alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.interference.page import PLOTS

Record = Mapping[str, Any]
FIELD, BESIDE, CHANCE = "#c8553d", "#1f5fa8", "#8f8f8f"


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the plots of all parts that the record has; returns their files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        for part, names in PLOTS.items():
            for name in names if part in record else ():
                figure = _PLOTS[name](record, plt)
                file = folder / f"{record['name']}_{name}.png"
                figure.savefig(file, dpi=110, metadata={"Software": None})
                plt.close(figure)
                written.append(file)
    return written


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


_PLOTS: dict[str, Callable[[Record, Any], Any]] = {
    "rankers": _rankers,
}
