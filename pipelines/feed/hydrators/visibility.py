from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Hydrator
from pipelines.feed.table import Candidates, Columns
from pipelines.feed.visibility import RECOMMENDED, SHARED, Labelled, Rule, Verdict, judge

# What a post shows beside itself: columns of the other post and of its author, and what it does.
_OTHERS = (
    ("repost_of_post_id", "repost_author_id", "repeats"),
    ("quote_of_post_id", "quote_author_id", "quotes"),
    ("reply_to_post_id", "reply_to_author_id", "answers"),
)
_IN_WORDS = {Verdict.INTERSTITIAL: "behind a notice", Verdict.DROP: "not to be shown"}


@dataclass(frozen=True, kw_only=True)
class Visibility(Hydrator):
    """Judges posts by their labels and their authors', and by those of posts that they show.

    A repost, quote or reply is judged as hard as what it repeats, quotes or answers; rules
    for recommendations hold for all of it where its author is not followed. Lists in
    feed.yaml take the place of those in pipelines/feed/visibility.py, all of them.
    """

    needs = (
        *("post_id", "author_id", "in_network", "query.graph"),
        *(name for post_id, author_id, _ in _OTHERS for name in (post_id, author_id)),
    )
    provides: ClassVar = {
        "visibility": np.int8,  # as visibility.Verdict
        "visibility_rule": np.int16,  # shared rules, then those for recommendations; 0 = none
        "visibility_of": np.int8,  # 0 = the post itself, then in the order of _OTHERS
    }
    fails = "open"  # the filter visibility then drops what was not judged
    timeout_ms: PositiveInt = 200
    shared: tuple[Rule, ...] = SHARED
    recommended: tuple[Rule, ...] = RECOMMENDED

    async def hydrate(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask for the labels as of the request, then judge; the hardest verdict counts."""
        verdict, rule = await self._judged(query, posts, services, "post_id", "author_id")
        of = np.zeros(len(posts), np.int8)
        for nth, (post_id, author_id, _) in enumerate(_OTHERS, start=1):
            if posts[post_id].any():
                theirs, their_rule = await self._judged(query, posts, services, post_id, author_id)
                harder = theirs > verdict
                verdict[harder], rule[harder], of[harder] = theirs[harder], their_rule[harder], nth
        return {"visibility": verdict, "visibility_rule": rule, "visibility_of": of}

    async def _judged(
        self, query: FeedQuery, posts: Candidates, services: Services, post_id: str, author_id: str
    ) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
        """Verdict and rule for the posts in one column, by the authors in another."""
        followed = query["graph"].followed
        labelled = Labelled(
            post=await services.labels("post", posts[post_id], query.now_ms),
            author=await services.labels("author", posts[author_id], query.now_ms),
            followed=posts["in_network"]
            if post_id == "post_id"
            else np.isin(posts[author_id], followed) | (posts[author_id] == query.user_id),
            recommended=~posts["in_network"],
        )
        return judge(labelled, self.shared, self.recommended)

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Name the verdict and the rule."""
        verdict = Verdict(posts["visibility"][row])
        if verdict == Verdict.ALLOW:
            return None
        rule = (*self.shared, *self.recommended)[posts["visibility_rule"][row] - 1]
        of = posts["visibility_of"][row]
        whose = f" of the post that it {_OTHERS[of - 1][2]}" if of else ""
        return f"{_IN_WORDS[verdict]}: {rule.name}{whose}"
