"""Plots of a study, made from its record alone, beside its page."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from train.report import write

Record = Mapping[str, Any]
Plot = Callable[[Record, Any], Any]  # of a record, by matplotlib's pyplot -> a figure
_log = logging.getLogger(__name__)


def save(record: Record, folder: Path, plots: Iterable[tuple[str, Plot]]) -> list[Path]:
    """Write `folder/<record's name>_<plot's name>.png` for each plot; returns the files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return figures(
        (folder / f"{record['name']}_{name}.png", partial(plot, record)) for name, plot in plots
    )


def figures(plots: Iterable[tuple[Path, Callable[[Any], Any]]]) -> list[Path]:
    """Write each file with what its function draws by pyplot; none where it gives None.

    Returns:
        The files that were written.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written = []
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        for file, plot in plots:
            if (figure := plot(plt)) is not None:
                figure.savefig(file, dpi=110, metadata={"Software": None})
                plt.close(figure)
                written.append(file)
    return written


def write_with_plots(
    name: str, record: dict[str, Any], folder: str, draw: Callable[[Record, Path], Any]
) -> Path:
    """`report.write`, then `draw` the record as it was written; without matplotlib, no plots."""
    page = write(name, record, folder)
    try:
        draw(json.loads(page.with_suffix(".json").read_text()), page.parent)
    except ImportError as error:
        _log.warning("no plots: %s", error)
    return page
