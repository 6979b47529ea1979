"""Negatives for the ranker: posts that other viewers of the batch were shown.

A log holds what some earlier feed chose to show. Candidates at serving time are a wider lot, and
most posts that one viewer was shown are nothing to another.

Axes: B examples, C candidates, K borrowed posts per example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import pad
from pipelines.facts import Facts

Ids = NDArray[np.int64]

_TRIES = 4  # posts drawn for each that is wanted; those that will not do are dropped


@dataclass(frozen=True)
class Borrowed:
    """Posts to stand beside each example's own candidates, as if shown with the first of them.

    Attributes:
        post_id: 0 = padding: fewer than wanted would do. int64 [B, K].
        author_id: int64 [B, K].
        surface: the example's own. int16 [B, K].
        at_ms: when the example's visit began. int64 [B, K].
        weight: 1 / times the post was borrowed in this batch, 0 for padding: a post that many are
            shown is borrowed often, and would be pushed down for it. float32 [B, K].
    """

    post_id: Ids
    author_id: Ids
    surface: NDArray[np.int16]
    at_ms: Ids
    weight: NDArray[np.float32]


def borrow(rows: pa.Table, num_borrowed: int, facts: Facts, rng: np.random.Generator) -> Borrowed:
    """Draw posts among those that the other viewers of `rows` were shown.

    A post is as likely as it was shown often. Never one that the viewer has in any history or
    candidates of `rows`, that was published after the visit, or that the example borrowed already.

    Args:
        rows: of schema.EXAMPLES.
        num_borrowed: K, wanted per example; there are fewer where draws will not do.
        facts: when posts were published.
        rng: draws.
    """
    _, viewer = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    shown, shown_by = _flat(rows["post_id"], viewer)
    past, past_of = _flat(rows["history_post_id"], viewer)
    posts, place = np.unique(np.concatenate([shown, past]), return_inverse=True)
    known = np.unique(np.concatenate([shown_by, past_of]) * len(posts) + place)

    source = rng.integers(len(shown), size=(len(rows), _TRIES * num_borrowed))
    drawn = place[: len(shown)][source]  # place among `posts`
    at_ms = rows["at_ms"].to_numpy()[:, None]
    unpublished = facts.created_at_ms[facts.post_row(shown[source])] > at_ms
    fits = ~unpublished & ~np.isin(viewer[:, None] * len(posts) + drawn, known)
    fits &= ~_repeats(drawn)
    first = np.argsort(~fits, axis=1, kind="stable")[:, :num_borrowed]
    fits, source, drawn = (np.take_along_axis(a, first, axis=1) for a in (fits, source, drawn))

    count = np.bincount(drawn[fits], minlength=len(posts))
    author = rows["author_id"].combine_chunks().flatten().to_numpy()
    return Borrowed(
        post_id=np.where(fits, shown[source], 0),
        author_id=np.where(fits, author[source], 0),
        surface=np.where(fits, pad(rows["surface"], 1), 0).astype(np.int16),
        at_ms=np.where(fits, at_ms, 0),
        weight=np.where(fits, 1 / np.maximum(count[drawn], 1), 0).astype(np.float32),
    )


def _flat(column: pa.ChunkedArray, viewer: Ids) -> tuple[Ids, Ids]:
    """What the lists hold, and whose each is. int64 [n] each."""
    lists = column.combine_chunks()
    length = lists.value_lengths().to_numpy(zero_copy_only=False)
    return lists.flatten().to_numpy(), np.repeat(viewer, length)


def _repeats(values: Ids) -> NDArray[np.bool_]:
    """Whether the same value stands further left in its row. bool [B, n]."""
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    again = np.zeros(values.shape, bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return again
