"""Changed histories: what a ranker says of the same posts when one thing in the past is different.

Nothing here knows how a log came about; all answers are the model's. Axes: V viewers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.schema import ACTION_NAMES, EXAMPLES
from train.rows import Past

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Predict = Callable[[pa.Table], NDArray[np.floating]]  # examples -> [rows, A]; see train.evaluate

MOST_POSTS = 3  # of the author, looked at for one viewer
JUST_BEFORE_MS = 60_000  # the inserted event, before the visit
_PAST = ("post_id", "author_id", "did", "surface", "dwell_s", "at_ms")


@dataclass(frozen=True)
class Event:
    """Something that is put at the end of a history; None = it was seen and nothing done."""

    post_id: int
    author_id: int
    action: str | None


@dataclass(frozen=True)
class Posts:
    """Posts that candidates are drawn from; arrays are [P], sorted by post_id.

    Attributes:
        post_id, author_id: author 0 = unknown.
        topic: first one, 0 = unknown.
        at_ms: when it was written; 0 = unknown.
    """

    post_id: Ints
    author_id: Ints
    topic: Ints
    at_ms: Ints

    @classmethod
    def of(cls, table: pa.Table) -> Posts:
        """From a data set's posts."""
        table = table.sort_by("post_id")
        topics = table["topic_ids"].to_pylist()

        def column(name: str) -> Ints:
            return table[name].fill_null(0).to_numpy().astype(np.int64)

        first = np.array([each[0] if each else 0 for each in topics], np.int64)
        return cls(column("post_id"), column("author_id"), first, column("created_at_ms"))

    def topic_of(self, post_id: Ints) -> Ints:
        """Of each, 0 = unknown."""
        return self._of(post_id, self.topic)

    def author_of(self, post_id: Ints) -> Ints:
        """Of each, 0 = unknown."""
        return self._of(post_id, self.author_id)

    def _of(self, post_id: Ints, values: Ints) -> Ints:
        at = np.minimum(np.searchsorted(self.post_id, post_id), len(self.post_id) - 1)
        return np.where(self.post_id[at] == post_id, values[at], 0)

    def by(self, author: int, before_ms: int) -> Ints:
        """Posts of an author written before, newest first."""
        mine = np.flatnonzero((self.author_id == author) & (self.at_ms < before_ms))
        return self.post_id[mine[np.argsort(-self.at_ms[mine], kind="stable")]]


@dataclass(frozen=True)
class Case:
    """One viewer, an author whom they have never met, and one whose topic is another.

    Attributes:
        example: row of the visit, of EXAMPLES.
        candidates: posts of the author, other than `met`.
        met: the post of the author that the inserted event is about.
        unrelated: post and author of the placebo.
    """

    example: dict[str, Any]
    candidates: Ints
    author_id: int
    met: int
    unrelated: tuple[int, int]


def cases(examples: pa.Table, past: Past, posts: Posts, most: int, seed: int = 0) -> list[Case]:
    """At most one case a viewer, of those who have done something before.

    The author is one of whom a post was shown at the visit and none before, be it so long ago that
    the history, which ends after its newest entries, has lost it; the unrelated author writes on a
    topic that nothing of the visit is about.
    """
    rng = np.random.default_rng(seed)
    found: list[Case] = []
    seen: set[int] = set()
    for at in rng.permutation(len(examples)):
        if len(found) == most:
            break
        row = examples.slice(at, 1).to_pylist()[0]
        if row["user_id"] in seen or not row["history_post_id"]:
            continue
        start, end = past.before(np.array([row["user_id"]]), np.array([row["at_ms"]]))
        shown = past.post_id[start[0] : end[0]]
        made = _case(row, posts, set(posts.author_of(shown).tolist()), rng)
        if made is not None:
            seen.add(row["user_id"])
            found.append(made)
    return found


def _case(
    row: dict[str, Any], posts: Posts, met: set[int], rng: np.random.Generator
) -> Case | None:
    known = {0, row["user_id"], *row["history_author_id"], *met}
    strangers = [author for author in dict.fromkeys(row["author_id"]) if author not in known]
    before = row["at_ms"] - JUST_BEFORE_MS
    for author in strangers:
        own = posts.by(author, before)
        if len(own) < 2:
            continue
        topics = set(posts.topic_of(np.array([*own, *row["post_id"]])).tolist())
        others = np.flatnonzero(
            ~np.isin(posts.topic, list(topics))
            & ~np.isin(posts.author_id, [*known, author])
            & (posts.at_ms < before)
        )
        if not len(others):
            return None
        other = int(rng.choice(others))
        pair = int(posts.post_id[other]), int(posts.author_id[other])
        return Case(row, own[1 : 1 + MOST_POSTS], author, int(own[0]), pair)
    return None


def with_event(case: Case, event: Event | None) -> dict[str, Any]:
    """The visit with the candidates, and with this event as the newest of the history.

    It is JUST_BEFORE_MS before the visit, or with the newest event there is if that is later.
    """
    row = dict(case.example)
    num = len(case.candidates)
    if event is not None:
        # Histories are in the order of time: what was done within that minute stays older.
        at = max([row["at_ms"] - JUST_BEFORE_MS, *row["history_at_ms"][-1:]])
        did = 0 if event.action is None else 1 << ACTION_NAMES.index(event.action)
        new = (event.post_id, event.author_id, did)
        surface = (row["surface"] or [0])[0]
        for name, value in zip(_PAST, (*new, surface, float("nan"), at), strict=True):
            row[f"history_{name}"] = [*row[f"history_{name}"], value]
    row |= {
        "post_id": case.candidates.tolist(),
        "author_id": [case.author_id] * num,
        "surface": [(row["surface"] or [0])[0]] * num,
        "shown_at_ms": [row["at_ms"]] * num,
        "did": [0] * num,
        "observed": [0] * num,
        "dwell_s": [float("nan")] * num,
    }
    return row


def scores(predict: Predict, rows: Sequence[dict[str, Any]], worth: Floats) -> Floats:
    """Mean worth of each row's candidates, as the model predicts what comes of them. [V].

    Args:
        predict: the model.
        rows: visits.
        worth: of each action; negative actions that viewers take against a post count below 0
            or not at all, so that being hated never raises a score. [A].
    """
    table = pa.Table.from_pylist(list(rows), schema=EXAMPLES)
    value = predict(table).astype(np.float64) @ worth
    of = np.repeat(np.arange(len(rows)), [len(row["post_id"]) for row in rows])
    return np.bincount(of, value) / np.bincount(of)


def falls(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Where a score is lower than it was. bool [V]."""
    return after < before
