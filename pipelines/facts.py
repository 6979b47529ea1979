"""What is known of posts and viewers beside the rows of a log, as of any instant.

The same files lie in a prepared data folder and in a bundle's tables, and the same class reads
both: what a model learned from is what it is served with. A file that is missing makes its facts
unknown: zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.fact_columns import (
    Ids,
    aligned,
    attributes,
    filled,
    find,
    padded_lists,
    unknown,
)
from pipelines.prepared import read_manifest

KINDS = ("all", "post", "author", "topic")  # what the data job counts showings and actions by
NUM_TOPICS = 3  # of a post's topics, the first so many
RATES = "rates"  # folder; below, arrays and the posts that their rows are of, sorted
CONTENT, CONTENT_IDS = "content.npy", "content_ids.npy"
CODES, CODE_IDS = "codes.npy", "code_ids.npy"


@dataclass(frozen=True)
class Rates:
    """How often each id was shown, and each action done, before any instant.

    Attributes:
        id: sorted. int64 [I].
        row: key of each change: place of the id, then the second from which it holds. int64 [n].
        counts: shown, then each action, cumulative; the last row is zeros. float32 [n + 1, 1 + A].
        step_s: place of an id times this, plus the second, is a key.
    """

    id: Ids
    row: Ids
    counts: NDArray[np.float32]
    step_s: int

    @classmethod
    def of(cls, table: pa.Table, actions: Sequence[str]) -> Rates:
        """Index a table as the data job writes it: id, from_ms, shown, observed actions."""
        ids, from_s = table["id"].to_numpy(), table["from_ms"].to_numpy() // 1000
        counts = np.zeros((len(ids) + 1, 1 + len(actions)), np.float32)
        counts[:-1, 0] = table["shown"].to_numpy()
        for name in table.schema.names[3:]:
            counts[:-1, 1 + actions.index(name)] = table[name].to_numpy()
        known = np.unique(ids)
        step_s = int(from_s.max(initial=0)) + 2
        return cls(known, np.searchsorted(known, ids) * step_s + from_s, counts, step_s)

    def before(self, ids: Ids, at_ms: Ids) -> NDArray[np.float32]:
        """Counts of each id as they stood at each instant. [...], [...] -> [..., 1 + A]."""
        if not len(self.row):
            return np.zeros((*np.shape(ids), self.counts.shape[1]), np.float32)
        place = find(ids, self.id)
        key = place * self.step_s + np.clip(at_ms // 1000, 0, self.step_s - 1)
        row = np.searchsorted(self.row, key, side="right") - 1
        mine = (place >= 0) & (row >= 0) & (self.row[row] >= place * self.step_s)
        return self.counts[np.where(mine, row, -1)]


@dataclass(frozen=True)
class NewFacts:
    """What is known of posts that were published since; rows as in `Facts`, but none for no post.

    Few beside those of `Facts`, so that adding to them copies little.
    """

    post_id: Ids
    created_at_ms: Ids
    duration_s: NDArray[np.float32]
    topic: Ids
    content: NDArray[np.float32]

    @classmethod
    def of(cls, posts: pa.Table, content: NDArray[np.float32]) -> NewFacts:
        """Index posts [n], each there once, and the vectors of their texts [n, E]."""
        return cls(
            post_id=posts["post_id"].to_numpy(),
            created_at_ms=filled(posts["created_at_ms"], 0),
            duration_s=filled(posts["duration_s"], np.nan),
            topic=padded_lists(posts["topic_ids"], NUM_TOPICS)[:-1],
            content=content,
        ).take(np.argsort(posts["post_id"].to_numpy()))

    def take(self, rows: Ids) -> NewFacts:
        """Those at `rows`, which keep ids sorted."""
        names = NewFacts.__dataclass_fields__
        return NewFacts(**{name: getattr(self, name)[rows] for name in names})

    def merged(self, other: NewFacts) -> NewFacts:
        """These and others, of which none is here."""
        at = np.searchsorted(self.post_id, other.post_id)
        return NewFacts(
            *(
                np.insert(getattr(self, name), at, getattr(other, name), axis=0)
                for name in NewFacts.__dataclass_fields__
            )
        )


@dataclass(frozen=True)
class Facts:
    """Posts and viewers by id.

    Attributes:
        post_id: sorted. int64 [N].
        created_at_ms: int64 [N + 1], 0 = unknown; the last row, here and below, is no post.
        duration_s: float32 [N + 1], NaN = unknown.
        topic: int64 [N + 1, NUM_TOPICS], 0 = none.
        user_id: sorted. int64 [U].
        attribute: a number for each profile fact, stable between runs. int64 [U + 1, F], 0 = none.
        rates: by kind; a kind that was not counted is absent.
        content: unit vectors of the posts' text. float32 [N + 1, E]; E = 0: none.
        codes: semantic ids, 0 = none. int64 [N + 1, L]; L = 0: none.
        newer: posts that came later, see `with_posts`; `of_posts` reads both.
    """

    post_id: Ids
    created_at_ms: Ids
    duration_s: NDArray[np.float32]
    topic: Ids
    user_id: Ids
    attribute: Ids
    rates: Mapping[str, Rates]
    content: NDArray[np.float32]
    codes: Ids
    newer: NewFacts | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        actions: Sequence[str] | None = None,
        which: Callable[[Ids], NDArray[np.bool_]] | None = None,
    ) -> Facts:
        """Read what `folder` holds.

        Args:
            folder: prepared data, or the tables of a bundle.
            actions: all of the log, in their order; None = as the data's manifest names them.
            which: of posts [n] those that are wanted. Of these too vectors of text, semantic ids
                and rates are unknown then: it is for who has to know new posts. None = all of all.
        """
        if actions is None:
            actions = read_manifest(folder)["actions"]
        columns = ["post_id", "created_at_ms", "duration_s", "topic_ids"]
        posts = pq.read_table(folder / "posts.parquet", columns=columns).sort_by("post_id")
        if which is not None:
            posts = posts.filter(pa.array(which(posts["post_id"].to_numpy())))
        users = pq.read_table(folder / "users.parquet").sort_by("user_id")
        post_id = posts["post_id"].to_numpy()
        rates = {
            kind: Rates.of(pq.read_table(path), actions)
            for kind in KINDS
            if which is None and (path := folder / RATES / f"{kind}.parquet").exists()
        }
        rows = unknown if which is not None else aligned
        return cls(
            post_id=post_id,
            created_at_ms=np.append(filled(posts["created_at_ms"], 0), 0),
            duration_s=np.append(filled(posts["duration_s"], np.nan), np.float32(np.nan)),
            topic=padded_lists(posts["topic_ids"], NUM_TOPICS),
            user_id=users["user_id"].to_numpy(),
            attribute=attributes(users),
            rates=rates,
            content=rows(folder, CONTENT, CONTENT_IDS, post_id).astype(np.float32, copy=False),
            codes=rows(folder, CODES, CODE_IDS, post_id).astype(np.int64, copy=False),
        )

    def check_content(self, content_size: int, num_code_levels: int, place: object) -> None:
        """Check that vectors of text and semantic ids have the sizes that a model reads.

        Args:
            content_size: numbers of a vector, 0 = the model reads none.
            num_code_levels: codes of a semantic id, 0 = the model reads none.
            place: where these facts are from.

        Raises:
            ValueError: those of `place` have others.
        """
        text = "content_size", "vectors of text", "pipelines.data.encode"
        codes = "num_code_levels", "semantic ids", "train.semantic_ids"
        for (name, words, maker), size, facts in (
            (text, content_size, self.content),
            (codes, num_code_levels, self.codes),
        ):
            have = facts.shape[1]
            if size not in (0, have):
                found = f"{words} of {have} numbers" if have else f"no {words}"
                raise ValueError(
                    f"features.{name}: {size}, but {place} has {found}; change it, or run "
                    f"`python -m {maker} {place}`"
                )

    def with_posts(self, posts: pa.Table, content: NDArray[np.float32] | None = None) -> Facts:
        """These facts and those of posts that are not among them; the arrays above are shared.

        Copies what was added before, and nothing else. Semantic ids of new posts are unknown.

        Args:
            posts: columns of schema.POSTS. Of a post that is known nothing changes; of one that
                is here twice, the first counts.
            content: vectors of their texts, zeros = none. float32 [n, E]; None = no post has one.
        """
        post_id = posts["post_id"].to_numpy()
        first = np.unique(post_id, return_index=True)[1]
        new = first[(self.post_row(post_id) < 0)[first]]
        if self.newer is not None:
            new = new[find(post_id[new], self.newer.post_id) < 0]
        if not len(new):
            return self
        if content is None:
            content = np.zeros((len(post_id), self.content.shape[1]), np.float32)
        added = NewFacts.of(posts.take(new), content[new])
        return replace(self, newer=added if self.newer is None else self.newer.merged(added))

    def without_posts(self, post_id: Ids) -> Facts:
        """These facts but for some of what `with_posts` added."""
        if self.newer is None or not (gone := np.isin(self.newer.post_id, post_id)).any():
            return self
        return replace(self, newer=self.newer.take(np.flatnonzero(~gone)))

    def post_row(self, post_id: Ids) -> Ids:
        """Row of each post in the arrays above, the last one for what is not in them."""
        return find(post_id, self.post_id)

    def of_posts(self, post_id: Ids, *names: str) -> list[NDArray]:
        """Some of the arrays above, `newer` included, at each post.

        Args:
            post_id: any shape; what is unknown has the values of no post.
            names: of created_at_ms, duration_s, topic, content, codes.

        Returns:
            One a name, each [..., width].
        """
        row = self.post_row(post_id)
        found = [getattr(self, name)[row] for name in names]
        if self.newer is not None:
            place = find(post_id, self.newer.post_id)
            here = place >= 0
            for name, values in zip(names, found, strict=True):
                if name != "codes":
                    values[here] = getattr(self.newer, name)[place[here]]
        return found

    def user_row(self, user_id: Ids) -> Ids:
        """Row of each viewer in `attribute`."""
        return find(user_id, self.user_id)

    def counts(self, kind: str, ids: Ids, at_ms: Ids, num_actions: int) -> NDArray[np.float32]:
        """As `Rates.before`; zeros where the kind was not counted. float32 [..., 1 + A]."""
        if kind not in self.rates:
            return np.zeros((*np.shape(ids), 1 + num_actions), np.float32)
        return self.rates[kind].before(ids, at_ms)
