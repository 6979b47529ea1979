"""What a run of the feed gives back: the page, and an account of how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.feed.stages import Component, FeedQuery
from pipelines.feed.table import Candidates

Outcome = Literal["ok", "partial", "failed", "timeout", "skipped"]


@dataclass(frozen=True)
class Trace:
    """What one component did in one run.

    Attributes:
        num_in: posts it was given.
        num_out: posts it brought, kept or worked on; on failure, posts left after it.
        ms: time it took, waiting included.
        outcome: "partial" = a source without some of its parts; "skipped" = it did not apply to
            this query, or (with an error) something that it needs had failed.
        error: why it failed or was skipped, what is missing, or None.
    """

    stage: str
    name: str
    num_in: int
    num_out: int
    ms: float
    outcome: Outcome
    error: str | None = None

    @property
    def key(self) -> str:
        """Stage and name, as in `Component.key`."""
        return f"{self.stage}.{self.name}"


@dataclass(frozen=True)
class FeedResult:
    """A page and where it came from.

    A column may be missing where the component that provides it failed or did not
    apply; where no posts are left, all but `post_id` may be.

    Attributes:
        page: the posts to show, in served order, with all their columns.
        query: the query with its context filled.
        retrieved: every post that a source brought, with sources' and hydrators'
            columns, before any filter.
        scored: posts that passed the filters, with scorers' columns, in no order.
        ranked: those the selector chose, best first; the page is drawn from its top.
        trace: one entry per component, in the order they ran; of a rule of the page,
            one for each time that the page was refilled.
        degraded: keys of the components whose failure or time-out, or that of a part of
            them, changed the answer; empty on a good day.
        dropped: filter's key -> ids it dropped, whatever other filters said;
            post-filters' too.
        components: those of the variant that ran, in order.
        arms: experiment -> the arm that the viewer is in.
    """

    page: Candidates
    query: FeedQuery
    retrieved: Candidates
    scored: Candidates
    ranked: Candidates
    trace: tuple[Trace, ...]
    degraded: tuple[str, ...]
    dropped: Mapping[str, NDArray[np.int64]]
    components: tuple[Component, ...]
    arms: Mapping[str, str]

    @property
    def cold_start(self) -> bool:
        """Whether nobody has heard of this viewer, so the feed is the same for all such."""
        return self.query.cold_start

    @cached_property
    def pool(self) -> Candidates:
        """All posts of `scored`, best first: those that the selector chose, then by score."""
        scored = self.scored
        by_id = np.argsort(scored.post_id)
        chosen = by_id[np.searchsorted(scored.post_id, self.ranked.post_id, sorter=by_id)]
        others = np.setdiff1d(np.arange(len(scored)), chosen)
        if "score" in scored:
            others = others[np.argsort(-scored["score"][others], kind="stable")]
        return scored.take(np.concatenate([chosen, others]))
