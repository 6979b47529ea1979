"""A run of the feed as the posts of a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipelines.feed.explain import Explainer
from pipelines.feed.result import FeedResult
from serve import api

_MULTIPLIER = "_multiplier"
_RANK = "_rank"
# By Verdict; without the hydrator visibility nothing is judged.
_VISIBILITY: tuple[Literal["allow", "interstitial"], ...] = ("allow", "interstitial")


def posts_of(
    result: FeedResult, explainer: Explainer, actions: Mapping[str, int]
) -> list[api.Post]:
    """The page, best first; of `p_action` [C, A] the columns of `actions`: name -> column."""
    page = result.page
    plain = {name: values.tolist() for name, values in page.items()}
    p_action = plain.get("p_action")
    sources = {n.removesuffix(_RANK): plain[n] for n in plain if n.endswith(_RANK)}
    multipliers = {n.removesuffix(_MULTIPLIER): plain[n] for n in plain if n.endswith(_MULTIPLIER)}
    return [
        api.Post(
            post_id=plain["post_id"][row],
            author_id=plain["author_id"][row],
            rank=row + 1,
            score=plain["score"][row],
            sources=[name for name, rank in sources.items() if rank[row]],
            p_action={n: p_action[row][at] for n, at in actions.items()} if p_action else {},
            adjustments={name: values[row] for name, values in multipliers.items()},
            visibility=_VISIBILITY[plain["visibility"][row] if "visibility" in plain else 0],
            reason=explainer.reason(result, row),
        )
        for row in range(len(page))
    ]
