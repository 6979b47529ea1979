from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
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
        """Ask once for all labels as of the request, then judge; the hardest verdict counts."""
        shown = {0: ("post_id", "author_id")}
        for nth, (post, author, _) in enumerate(_OTHERS, start=1):
            if posts[post].any():  # most logs have none of the kind
                shown[nth] = post, author
        post_id, author_id = (
            np.concatenate([posts[names[side]] for names in shown.values()]) for side in (0, 1)
        )
        followed = np.isin(author_id, query["graph"].followed) | (author_id == query.user_id)
        labelled = Labelled(
            post=await services.labels("post", post_id, query.now_ms),
            author=await services.labels("author", author_id, query.now_ms),
            followed=followed,
            recommended=np.tile(~posts["in_network"], len(shown)),
        )
        verdicts, rules = (
            part.reshape(len(shown), len(posts))
            for part in judge(labelled, self.shared, self.recommended)
        )
        hardest = verdicts.argmax(axis=0)  # of equal ones the post's own
        at = hardest, np.arange(len(posts))
        of = np.array(list(shown), np.int8)[hardest]
        return {"visibility": verdicts[at], "visibility_rule": rules[at], "visibility_of": of}

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Name the verdict and the rule."""
        if rule := self.rule_of(posts, row):
            return f"{_IN_WORDS[Verdict(posts['visibility'][row])]}: {rule}"
        return None

    def rule_of(self, posts: Candidates, row: int) -> str | None:
        """The rule that hides or drops the post at `row`, and of which post; None if none does."""
        if not posts["visibility"][row]:  # Verdict.ALLOW, as nearly all are
            return None
        rule = (*self.shared, *self.recommended)[posts["visibility_rule"][row] - 1]
        of = posts["visibility_of"][row]
        whose = f" of the post that it {_OTHERS[of - 1][2]}" if of else ""
        return f"{rule.name}{whose}"
