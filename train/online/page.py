"""The page of the closed loop: a pure function of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train import report

_TEXT = (
    "Every round each viewer of the synthetic world asks for one page; posts are ordered by their "
    "rate of favorites plus α times the interference field, and what viewers then do is all that "
    "a controller learns of. All ways to choose α meet the same candidates and the same luck. "
    "Means are of expected favorites a page, over rounds and seeds; the oracle is the best fixed α "
    "of the grid in hindsight, and the gain is from α = 0 to it."
)


def markdown(record: Mapping[str, Any]) -> str:
    """The page of a record as `train.online.simulate` writes it."""
    shown = {k: v for k, v in record.items() if k not in ("page", "settings")}
    head, title, rest = report.markdown(shown).partition("## favorites a page")
    settings = record["settings"]
    size = {k: settings["loop"]["world"][k] for k in ("num_users", "num_posts")}
    size |= {k: settings["loop"][k] for k in ("num_rounds", "num_candidates", "page")}
    sizes = f"{_TEXT} Sizes: {report.text(size)}."
    plot = f"![α and what is lost to the oracle]({record['name']}.png)"
    return f"{head}{sizes}\n\n{plot}\n\n{title}{rest}"
