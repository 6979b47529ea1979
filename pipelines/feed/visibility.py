"""Rules about labelled posts and authors: who is shown what, behind what, and who nothing.

Labels are set by people or classifiers elsewhere and come from a store. Rules are data: two lists
of them, in order, which feed.yaml may replace (hydrators.visibility). Axis C: posts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from configs import Config, near_miss

# What posts and authors may be labelled with; a set of labels is one int64 mask in this order.
LABELS: tuple[str, ...] = (
    *("suspended", "deactivated", "erased", "offboarded", "protected"),
    *("compromised", "read_only", "impersonation"),
    *("media_hash_match", "spam", "spam_high_recall", "malicious_url"),
    *("hateful_conduct", "violent_speech", "abuse", "insults", "civic_integrity"),
    *("takedown", "dmca", "geo_restricted", "nullcast", "stale", "do_not_amplify"),
    *("adult", "adult_high_recall", "adult_text", "adult_profile"),
    *("graphic_violence", "gore", "sensitive_media", "disputed"),
    "for_subscribers",  # no rule's: the filter ineligible_subscription asks who subscribes
)
MAX_LABELS = 63  # the sign bit stays free
assert len(LABELS) <= MAX_LABELS

Ids = NDArray[np.int64]
Kind = Literal["post", "author"]


class Verdict(IntEnum):
    """What a viewer gets to see; the larger one counts."""

    ALLOW = 0
    INTERSTITIAL = 1  # behind a notice that the viewer can click away
    DROP = 2


def known_label(name: str) -> str:
    """The label itself.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in LABELS:
        raise ValueError(f"{name!r}: no such label{near_miss(name, LABELS)}")
    return name


class Rule(Config):
    """What a label of a post, or of its author, means for who sees the post."""

    of: Kind
    label: Annotated[str, AfterValidator(known_label)]
    verdict: Literal["interstitial", "drop"] = "drop"
    spares_followed: bool = False  # does not hold for posts by the viewer and by followed authors

    @property
    def name(self) -> str:
        """`post_spam`: what explanations call it."""
        return f"{self.of}_{self.label}"


def _rules(of: Kind, *labels: str, **settings: object) -> tuple[Rule, ...]:
    return tuple(Rule.model_validate({"of": of, "label": label} | settings) for label in labels)


# For every post, whoever it is from.
SHARED: tuple[Rule, ...] = (
    *_rules("author", "suspended", "deactivated", "erased", "offboarded"),
    *_rules("author", "protected", spares_followed=True),
    *_rules("post", "media_hash_match", "takedown", "spam", "malicious_url"),
    *_rules("post", "hateful_conduct", "violent_speech", "abuse", "civic_integrity"),
    *_rules("post", "nullcast", "stale"),
    *_rules("author", "spam", spares_followed=True),
    *_rules("post", "adult", "graphic_violence", verdict="interstitial"),
    *_rules("post", "sensitive_media", "disputed", verdict="interstitial"),
)
# For posts that are recommended: by authors whom the viewer does not follow.
RECOMMENDED: tuple[Rule, ...] = (
    *_rules("post", "dmca", "geo_restricted", "do_not_amplify", "spam_high_recall", "insults"),
    *_rules("post", "adult", "adult_high_recall", "adult_text", "gore", "graphic_violence"),
    *_rules("post", "sensitive_media"),
    *_rules("author", "compromised", "read_only", "impersonation", "do_not_amplify"),
    *_rules("author", "adult", "adult_high_recall", "adult_profile"),
)


def mask_of(labels: Sequence[str]) -> int:
    """A set of labels as one number."""
    return sum({1 << LABELS.index(label) for label in labels})


@dataclass(frozen=True)
class Labelled:
    """Posts as rules see them; all [C].

    Attributes:
        post, author: sets of labels. int64.
        followed: whether the author is the viewer, or followed. bool.
        recommended: whether the post is shown as a recommendation. bool.
    """

    post: Ids
    author: Ids
    followed: NDArray[np.bool_]
    recommended: NDArray[np.bool_]


def judge(
    posts: Labelled, shared: Sequence[Rule], recommended: Sequence[Rule]
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """The verdict on each post, and which rule gave it.

    The first rule that drops a post decides; if none does, the first that hides it.

    Returns:
        Verdict int8 [C]; number of the rule int16 [C]: shared ones first, from 1 on, 0 = none.
    """
    verdict = np.zeros(len(posts.post), np.int8)
    number = np.zeros(len(posts.post), np.int16)
    rows = np.flatnonzero(posts.post | posts.author)  # most posts have no label
    masks = {"post": posts.post[rows], "author": posts.author[rows]}
    followed, is_recommended = posts.followed[rows], posts.recommended[rows]
    for nth, rule in enumerate((*shared, *recommended) if len(rows) else (), start=1):
        holds = masks[rule.of] >> LABELS.index(rule.label) & 1 > 0
        if rule.spares_followed:
            holds &= ~followed
        if nth > len(shared):
            holds &= is_recommended
        harder = Verdict[rule.verdict.upper()]
        at = rows[holds & (verdict[rows] < harder)]
        verdict[at], number[at] = harder, nth
    return verdict, number
