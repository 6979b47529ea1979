"""A run of the feed as the posts of a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipelines.feed.explain import Explainer
from pipelines.feed.hydrators.visibility import Visibility
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.result import FeedResult
from pipelines.feed.slots import WHO_TO_FOLLOW, placed, who_to_follow
from serve import api_feed
from serve.stores.slots import SlotStore

_MULTIPLIER = "_multiplier"
_RANK = "_rank"
# By Verdict; without the hydrator visibility nothing is judged.
_VISIBILITY: tuple[Literal["allow", "interstitial"], ...] = ("allow", "interstitial")
# Columns that a response repeats as they are; one that a failure left out is told as unknown.
_FACTS = (
    *("in_network", "conversation_id", "reply_to_post_id"),
    *("repost_of_post_id", "repost_author_id", "quote_of_post_id"),
)

_SUGGESTED = 5  # authors in a slot who_to_follow


def posts_of(
    result: FeedResult, explainer: Explainer, actions: Mapping[str, int]
) -> list[api_feed.Post]:
    """The page, best first; of `p_action` [C, A] the columns of `actions`: name -> column."""
    page = result.page
    plain = {name: values.tolist() for name, values in page.items()}
    p_action = plain.get("p_action")
    sources = {n.removesuffix(_RANK): plain[n] for n in plain if n.endswith(_RANK)}
    multipliers = {n.removesuffix(_MULTIPLIER): plain[n] for n in plain if n.endswith(_MULTIPLIER)}
    facts = [name for name in _FACTS if name in plain]
    rules, reasons = _rules(result), explainer.reasons(result)
    return [
        api_feed.Post(
            post_id=plain["post_id"][row],
            author_id=plain["author_id"][row],
            rank=row + 1,
            score=plain["score"][row],
            sources=[name for name, rank in sources.items() if rank[row]],
            p_action={n: p_action[row][at] for n, at in actions.items()} if p_action else {},
            adjustments={name: values[row] for name, values in multipliers.items()},
            visibility=_VISIBILITY[plain["visibility"][row] if "visibility" in plain else 0],
            visibility_reason=rules[row],
            reason=reasons[row],
            **{name: plain[name][row] for name in facts},
        )
        for row in range(len(page))
    ]


def _rules(result: FeedResult) -> list[str | None]:
    """Of each post of the page the rule that puts it behind a notice, if one does."""
    judge = next((one for one in result.components if isinstance(one, Visibility)), None)
    rows = range(len(result.page))
    if judge is None or "visibility" not in result.page:
        return [None for _ in rows]
    return [judge.rule_of(result.page, row) for row in rows]


def slots_of(feed: Pipeline, result: FeedResult, shown: SlotStore) -> list[api_feed.Slot]:
    """Where what is no post stands on the page, which `shown` remembers as shown."""
    query = result.query
    if not feed.slots:
        return []
    found = placed(feed.slots, len(result.page), shown.of(query.user_id), query.now_ms)
    slots = []
    for one in found:
        authors: list[int] = []
        if one.kind == WHO_TO_FOLLOW:
            authors = who_to_follow(query.context, query.user_id, _SUGGESTED).tolist()
            if not authors:
                continue  # nobody to suggest is nothing to show
        slots.append(api_feed.Slot(kind=one.kind, position=one.position, author_ids=authors))
    shown.add(query.user_id, (slot.kind for slot in slots), query.now_ms)
    return slots
