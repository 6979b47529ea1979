from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, FiniteFloat, PositiveInt

from pipelines.feed.services import Services, Space
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns

Amount = Annotated[FiniteFloat, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Interference(Scorer):
    """Adds α times the field of waves that the posts a viewer liked send to each post.

    In the mode "shadow" the field is computed, told where a post is explained and written to
    the log of audits, but adds nothing. α, the space and the scales' weights are the bundle's
    unless given.
    """

    needs = ("post_id", "query.history")
    provides: ClassVar = {
        "interference": np.float64,  # the field
        "interference_constructive": np.float64,  # per scale, longest waves first. [C, S]
        "interference_destructive": np.float64,  # at most 0. [C, S]
        "interference_dimension": np.float64,  # of the viewer's history
        "interference_ratio": np.float64,  # the same over the vectors' width
        "interference_worth": np.float64,  # NaN = nothing
    }
    fails = "open"  # the feed without it
    timeout_ms: PositiveInt = 500
    mode: Literal["off", "shadow", "on"] = "off"
    alpha: Amount | None = None  # worth of a field of 1
    space: Space | None = None
    scale_weights: tuple[Amount, ...] | None = None  # one a scale, any sum above 0

    def enabled(self, query: FeedQuery) -> bool:
        """Unless it is off, for viewers who have done something."""
        return self.mode != "off" and query["history"] is not None

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask for the field at all posts at once."""
        found = await services.interference(
            query["history"], posts.post_id, self.space, self.scale_weights
        )
        alpha = found.alpha if self.alpha is None else self.alpha
        everywhere = np.ones(len(posts))
        return {
            "interference": found.total,
            "interference_constructive": found.constructive,
            "interference_destructive": found.destructive,
            "interference_dimension": found.dimension * everywhere,
            "interference_ratio": found.ratio * everywhere,
            "interference_worth": (alpha if self.mode == "on" else np.nan) * found.total,
        }

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Name what it added, both parts of each scale, and the history's dimension."""
        total, worth = posts["interference"][row], posts["interference_worth"][row]
        adds, takes = (
            posts[f"interference_{kind}"][row] for kind in ("constructive", "destructive")
        )
        scales = ", ".join(
            f"{add:+.3f}{take - 0.0:+.3f}" for add, take in zip(adds, takes, strict=True)
        )
        dimension, ratio = (posts[f"interference_{n}"][row] for n in ("dimension", "ratio"))
        added = "in shadow" if np.isnan(worth) else f"{worth:+.3f}"
        return (
            f"interference {added} (field {total:+.3f}; scales {scales}; "
            f"D {dimension:.2f}, ρ {ratio:.3f})"
        )

    def numbers(self, posts: Candidates, row: int) -> Mapping[str, float | tuple[float, ...]]:
        """Its columns, by short names."""
        told = {"field": posts["interference"][row].tolist()}
        for name in self.provides:
            if name != "interference":
                value = posts[name][row].tolist()
                short = name.removeprefix("interference_")
                told[short] = tuple(value) if isinstance(value, list) else value
        return told
