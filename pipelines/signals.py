"""How often things were done before, as numbers that a model can read.

Axes: B examples, S history slots, C candidates, A actions.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import multi_hot, pad
from pipelines.facts import Facts

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

PRIOR = 20.0  # showings at the overall rate that every rate starts with

OVERALL_SCALE = 0.25  # of the overall log-odds, so that they are about as large as the rest

# Whose counts are compared with the overall ones, in the order of the numbers.
SIGNALS = (
    *("viewer", "post", "author", "topic"),
    *("viewer_and_post", "viewer_and_author", "viewer_and_topic"),
)


def overall_log_odds(counts: Floats) -> Floats:
    """Log-odds of each action over all showings. [..., 1 + A] -> [..., A]; NaN = never done."""
    shown, done = counts[..., :1], counts[..., 1:]
    return np.where(done > 0, np.log(done + 1) - np.log(shown - done + 1), np.nan)


def relative_log_odds(counts: Floats, overall: Floats) -> Floats:
    """How far something's rates lie above the overall ones, and how often it was shown.

    log(1 + shown) / 10, then logit((done + PRIOR p) / (shown + PRIOR)) - logit p for each
    action, p the overall rate: 0 where nothing is known.

    Args:
        counts: shown, then each action. [..., 1 + A].
        overall: log-odds, NaN = unknown. Broadcasts to [..., A].

    Returns:
        float32 [..., 1 + A].
    """
    shown, done = counts[..., :1], counts[..., 1:]
    p, not_p = 1 / (1 + np.exp(-overall)), 1 / (1 + np.exp(overall))
    out = np.empty(np.broadcast_shapes(counts.shape, (*p.shape[:-1], 1)), np.float32)
    out[..., :1] = np.log1p(shown) / 10
    # Not from the rate, which for what nearly all did rounds to 1.
    odds = np.log(done + PRIOR * p) - np.log(shown - done + PRIOR * not_p)
    odds -= overall
    out[..., 1:] = np.where(np.isnan(odds), 0, odds)
    return out


def matches(did: Floats, same: NDArray[np.bool_]) -> Floats:
    """Counts over the events of a history that match each candidate.

    Args:
        did: multi-hot. [B, S, A].
        same: whether an event counts for a candidate. [B, C, S].

    Returns:
        shown, then each action. float32 [B, C, 1 + A].
    """
    shown = same.sum(axis=-1, keepdims=True)
    return np.concatenate([shown, same.astype(np.float32) @ did], axis=-1, dtype=np.float32)


def signals(
    rows: pa.Table,
    post_id: NDArray[np.int64],
    author_id: NDArray[np.int64],
    at_ms: NDArray[np.int64],
    facts: Facts,
    num_actions: int,
    counted_len: int,
) -> NDArray[np.float32]:
    """What was done before: overall, by this viewer, to this post, author and topic.

    The viewer's own counts are over the newest `counted_len` events of the log itself: of
    what came before it only some acts are known. float32 [B, C, R].
    """
    at = np.where(post_id > 0, at_ms, 0)
    # In serving all are shown at one time, and what holds for all of them is computed once.
    when = at[:, :1] if (at == at[:, :1]).all() else at
    past_post, past_author, did, past_ms = (
        pad(rows[f"history_{name}"], counted_len, newest=True)
        for name in ("post_id", "author_id", "did", "at_ms")
    )
    logged = (past_ms > 0)[:, None, :]
    did = multi_hot(did, num_actions)
    topic, past_topic = (facts.of_posts(ids, "topic")[0][..., 0] for ids in (post_id, past_post))

    def same(mine: NDArray, theirs: NDArray) -> NDArray[np.bool_]:
        return (mine[:, :, None] == theirs[:, None, :]) & (theirs > 0)[:, None, :]

    overall = facts.counts("all", np.ones_like(when), when, num_actions)
    counts = {
        "viewer": matches(did, logged),
        "post": facts.counts("post", post_id, at, num_actions),
        "author": facts.counts("author", author_id, at, num_actions),
        "topic": facts.counts("topic", topic, at, num_actions),
        "viewer_and_post": matches(did, same(post_id, past_post)),
        "viewer_and_author": matches(did, same(author_id, past_author)),
        "viewer_and_topic": matches(did, same(topic, past_topic)),
    }
    base = overall_log_odds(overall)
    parts = [np.nan_to_num(base) * OVERALL_SCALE]
    parts += [relative_log_odds(counts[name], base) for name in SIGNALS]
    shape = post_id.shape
    every = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts]
    return np.concatenate(every, axis=-1, dtype=np.float32)
