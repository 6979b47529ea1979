"""Questions that retrieval is asked, made from a log: visits, and what would have been right.

Axes: Q queries, H liked posts, k results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.encoding import pad
from pipelines.facts import find
from train.baselines import LIKES
from train.rows import Past, flatten, ranges

Ids = NDArray[np.int64]

NUM_LIKED = 64  # newest likes that a retrieval baseline looks at, H


@dataclass(frozen=True)
class Queries:
    """Visits to find posts for, and what would have been right.

    Attributes:
        example: int64 [Q], row of the examples table.
        user_id: int64 [Q].
        liked: int64 [Q, H], corpus rows of the newest likes, oldest first, -1 = padding.
        seen: query and corpus row of every post shown to the viewer before.
        relevant: query and corpus row (-1 = not in the corpus) of each post not seen before
            that was acted on in the visit.
    """

    example: Ids
    user_id: Ids
    liked: Ids
    seen: tuple[Ids, Ids]
    relevant: tuple[Ids, Ids]

    @classmethod
    def of(cls, examples: pa.Table, past: Past, corpus: Ids, action: int) -> Queries:
        """One query for each example with something new to find.

        Args:
            examples: visits, rows of schema.EXAMPLES.
            past: all that viewers were shown; what is not older than a visit is left out.
            corpus: sorted ids of all posts that could be retrieved.
            action: index of the action that makes a shown post right.
        """
        rows = flatten(examples)
        rows = rows.take(rows.label(action))
        user, at_ms = examples["user_id"].to_numpy(), examples["at_ms"].to_numpy()
        place, which = ranges(*past.before(user, at_ms))
        posts = np.unique(np.concatenate([past.post_id, rows.post_id]))  # ids may fill 64 bits
        right, shown = (np.searchsorted(posts, ids) for ids in (rows.post_id, past.post_id[place]))
        num_posts = len(posts)
        new = np.isin(rows.example * num_posts + right, which * num_posts + shown, invert=True)
        target = np.unique(rows.example[new] * num_posts + right[new])
        example, query = np.unique(target // num_posts, return_inverse=True)
        asked = examples.take(example)
        history, did = (
            pad(asked[f"history_{c}"], NUM_LIKED, newest=True) for c in ("post_id", "did")
        )
        place, which = ranges(*past.before(user[example], at_ms[example]))
        row = find(past.post_id[place], corpus)
        return cls(
            example=example,
            user_id=user[example],
            liked=np.where(did & LIKES != 0, find(history, corpus), -1),
            seen=(which[row >= 0], row[row >= 0]),
            relevant=(query, find(posts[target % num_posts], corpus)),
        )

    def unseen(self, pages: Ids, num_posts: int) -> Ids:
        """The first `num_posts` corpus rows of each page that the viewer has not seen.

        Args:
            pages: corpus rows, best first, -1 = nothing. int64 [Q, m].
            num_posts: k.

        Returns:
            int64 [Q, k], -1 where a page ran out.
        """
        width = 1 + max(pages.max(initial=0), self.seen[1].max(initial=0))
        query = np.arange(len(pages))[:, None]
        out = np.isin(query * width + pages, self.seen[0] * width + self.seen[1]) | (pages < 0)
        order = np.argsort(out, axis=1, kind="stable")[:, :num_posts]
        left = np.take_along_axis(np.where(out, -1, pages), order, axis=1)
        return np.pad(left, ((0, 0), (0, num_posts - left.shape[1])), constant_values=-1)

    def hits(self, pages: Ids) -> NDArray[np.bool_]:
        """Which results are right. Pages as for `unseen`; bool of their shape."""
        width = 1 + max(pages.max(initial=0), self.relevant[1].max(initial=0))
        right = self.relevant[1] >= 0
        key = self.relevant[0][right] * width + self.relevant[1][right]
        return np.isin(np.arange(len(pages))[:, None] * width + pages, key) & (pages >= 0)
