from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class ReplyQuality(Scorer):
    """Adds what a reply is worth to a conversation: near the post, talked about, answered.

    worth · decay^(d - 1) · (1 + engagement · log(1 + E) + author · a), d the reply's depth below
    the post (1 = answers it). E sums the likes, replies and reposts of the reply and of all
    below it, each level below counting decay times as much; a is 1 if the author of the post
    wrote the reply or answered it. Only replies that passed the filters count for others.
    """

    needs = (
        *("post_id", "author_id", "reply_to_post_id", "replies_value"),
        *("num_likes", "num_replies", "num_reposts"),
    )
    provides: ClassVar = {"author_answered": np.bool_, "reply_quality_worth": np.float64}
    fails = "open"  # the order is then that of a timeline
    worth: NonNegativeFloat = 3.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    engagement: NonNegativeFloat = 0.5
    author: NonNegativeFloat = 1.0

    def enabled(self, query: FeedQuery) -> bool:
        """Where the request names a post."""
        return query.focal_post_id > 0

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask who wrote the post, then sum up each branch from its ends."""
        facts = await services.posts(np.array([query.focal_post_id], np.int64))
        focal_author = int(facts["author_id"][0])
        above, depth = _above(posts), self.depth(posts)
        theirs = (posts["author_id"] == focal_author) & (focal_author > 0)
        answered = theirs.copy()
        answered[above[theirs & (above >= 0)]] = True
        branch = self.branch(posts, above, depth)
        quality = 1 + self.engagement * np.log1p(branch) + self.author * answered
        worth = self.worth * self.decay ** (depth - 1.0) * quality
        return {"author_answered": answered, "reply_quality_worth": worth}

    def depth(self, posts: Candidates) -> NDArray[np.int64]:
        """As the source replies has it; what it did not bring counts as an answer. int64 [C]."""
        value = np.clip(np.nan_to_num(posts["replies_value"], nan=1.0), 1e-6, 1.0)
        return np.rint(1 / value).astype(np.int64)

    def branch(
        self, posts: Candidates, above: NDArray[np.int64], depth: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """E of each reply. float64 [C]."""
        acts = [posts[name] for name in ("num_likes", "num_replies", "num_reposts")]
        total = np.maximum(np.stack(acts), 0).sum(axis=0).astype(np.float64)
        deepest_first = np.argsort(-depth, kind="stable")
        for rows in np.split(deepest_first, np.flatnonzero(np.diff(depth[deepest_first])) + 1):
            below = rows[(above[rows] >= 0) & (depth[above[rows]] < depth[rows])]
            np.add.at(total, above[below], self.decay * total[below])
        return total

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say what it adds, and whether the author takes part."""
        took_part = ", the author took part" if posts["author_answered"][row] else ""
        return f"reply{took_part} +{posts['reply_quality_worth'][row]:.2f}"


def _above(posts: Candidates) -> NDArray[np.int64]:
    """Row of the post that each answers, -1 = not among them. int64 [C]."""
    order = np.argsort(posts.post_id)
    at = np.searchsorted(posts.post_id[order], posts["reply_to_post_id"])
    row = order[np.minimum(at, len(order) - 1)] if len(order) else order
    return np.where(posts.post_id[row] == posts["reply_to_post_id"], row, -1)
