"""A made-up pool of posts with 18 predicted actions each, and three stakeholders over them.

A post's features are what viewers do with it; six topics make some actions likelier. Each
stakeholder wants the five positive actions and differs in how much the four negative ones cost:
U = sum(positive) - alpha sum(negative).

Learning starts at +1 and -1 on these nine actions, which gives half the answer away; `neutral`
starts everywhere alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.schema import ACTIONS
from train.preference.space import START, Space

Floats = NDArray[np.float64]

ACTION_NAMES = tuple(action.name for action in ACTIONS if not action.continuous)
POSITIVE = ("favorite", "repost", "follow_author", "share", "reply")
NEGATIVE = ("block_author", "mute_author", "report", "not_interested")
ALPHA = {"user": 1.0, "platform": 0.3, "society": 4.0}  # cost of a negative action
TOPICS = ("sports", "tech", "politics_left", "politics_right", "entertainment", "news")
_POLITICS = {"favorite": 1.3, "repost": 1.8, "reply": 2.0, "block_author": 2.5, "report": 2.0}
_LIKELIER: dict[str, dict[str, float]] = {  # than the base; "negative" stands for all four
    "sports": {"favorite": 1.5, "repost": 1.3, "negative": 0.3},
    "tech": {"favorite": 1.2, "reply": 1.4},
    "politics_left": _POLITICS,
    "politics_right": _POLITICS,
    "entertainment": {"favorite": 1.8, "share": 1.5, "negative": 0.2},
    "news": {"follow_author": 1.3, "reply": 1.2},
}


def mask(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which actions these are. bool [18]."""
    return np.isin(ACTION_NAMES, names)


def action_weights(alpha: float, neutral: float = 0.0) -> Floats:
    """+1 for positive actions, -alpha for negative ones, `neutral` for the other nine. [18]."""
    positive, negative = mask(POSITIVE), mask(NEGATIVE)
    return np.where(positive, 1.0, np.where(negative, -alpha, neutral))


def space(num_items: int = 500, seed: int = 42, neutral: bool = False) -> Space:
    """The pool and its stakeholders.

    Args:
        num_items: posts.
        seed: of the pool.
        neutral: start learning at the same weight everywhere.
    """
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, len(TOPICS), num_items)
    features = rng.uniform(0.05, 0.3, (num_items, len(ACTION_NAMES)))
    features = np.clip(features * _factors()[topic], 0, 1)
    start = np.full(len(ACTION_NAMES), START) if neutral else action_weights(1.0)
    positive = features[:, mask(POSITIVE)].sum(axis=1)
    worth = np.clip(positive / 5 + 0.3, 0, 1)
    return Space.of(
        "synthetic",
        features,
        topic,
        {name: action_weights(alpha) for name, alpha in ALPHA.items()},
        ACTION_NAMES,
        {"items": num_items, "seed": seed},
        start=start,
        worth=np.tile(worth, (len(ALPHA), 1)),
        negative=mask(NEGATIVE),
    )


def _factors() -> Floats:
    """How much likelier each action is, by topic. [6, 18]."""
    factors = np.ones((len(TOPICS), len(ACTION_NAMES)))
    for at, topic in enumerate(TOPICS):
        for name, factor in _LIKELIER[topic].items():
            factors[at, mask(NEGATIVE if name == "negative" else (name,))] = factor
    return factors
