"""One table of posts, indexed by id: a bundle's, or some that came since.

Axes: C posts asked for, n posts found.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.encoding import pad
from pipelines.feed.services import Hits
from pipelines.feed.words import Words
from serve.stores.lookup import column, positions
from serve.stores.threads import authors_of, conversations

MAX_TOPICS = 16  # of a post's topics, the first so many
_POINTERS = {"reply_to": "reply_to_post_id", "repost": "repost_of_post_id"}
_POINTERS |= {"quote": "quote_of_post_id"}
# What is said of a post that is not here; columns of ids hold 0.
_UNKNOWN = {"created_at_s": np.nan, "duration_s": np.nan}


class PostTable:
    """Posts as columns in memory, none twice; no lookup loops over posts. Never changes."""

    def __init__(self, posts: pa.Table) -> None:
        """Index `posts`: the columns of schema.POSTS and perhaps `popularity`; no post twice."""
        if "popularity" not in posts.column_names:
            posts = posts.append_column("popularity", pa.array(np.zeros(len(posts))))
        posts = posts.sort_by("post_id")
        self.post_id = column(posts, "post_id", 0, np.int64)
        self._author_id = column(posts, "author_id", 0, np.int64)
        self._created_at_s = column(posts, "created_at_ms", np.nan) / 1000
        self._popularity = column(posts, "popularity", 0.0)
        self._facts = {
            "author_id": self._author_id,
            "created_at_s": self._created_at_s,
            "duration_s": column(posts, "duration_s", np.nan),
            "popularity": self._popularity,
            **self._threads(posts),
            "topic_ids": _topics(posts["topic_ids"]),
            "language": _languages(posts["language"]),
            "has_text": _has_text(posts["text"]),
        }
        self._words = Words.of(pa.concat_arrays([*posts["text"].chunks, pa.array([""])]))
        for name, values in self._facts.items():  # the last row stands for what is not here
            last = np.full((1, *values.shape[1:]), _UNKNOWN.get(name, 0), values.dtype)
            self._facts[name] = np.concatenate([values, last])
        self._facts["language"][-1] = ""
        self._most_liked = np.argsort(-self._popularity, kind="stable")

    def facts(self, post_id: NDArray[np.int64]) -> dict[str, NDArray]:
        """What this table knows of posts [C]: the columns that `Services.posts` promises.

        Threads end where they leave the table.
        """
        place, known = positions(self.post_id, post_id)
        row = np.where(known, place, -1)
        facts = {name: values[row] for name, values in self._facts.items()}
        facts["conversation_id"] = np.where(known, facts["conversation_id"], post_id)
        return {"known": known, **facts}

    def created_at_ms(self, post_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each post [C] was published; ms since 1970, 0 = unknown."""
        place, known = positions(self.post_id, post_id)
        found = np.zeros(len(post_id), np.int64)
        found[known] = np.rint(1000 * np.nan_to_num(self._created_at_s[place[known]]))
        return found

    def mention(self, post_id: NDArray[np.int64], keywords: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether the text of each post [C] holds one of `keywords`, as `Words.mention` says."""
        place, known = positions(self.post_id, post_id)
        texts = self._words.take(np.where(known, place, len(self.post_id)))
        return texts.mention(Words.of(pa.array(keywords)))

    def texts(self) -> NDArray[np.int64]:
        """A number for the text of each post of `post_id`, as `Words.digest` gives it. [N]."""
        return self._words.digest()[:-1]

    def has(self, post_id: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each post [C] is in the table."""
        return positions(self.post_id, post_id)[1]

    def most_liked(self, num_posts: int) -> Hits:
        """Posts by popularity, best first; equal popularity by post id."""
        rows = self._most_liked[:num_posts]
        return Hits(self.post_id[rows], self._popularity[rows])

    def _threads(self, posts: pa.Table) -> dict[str, NDArray[np.int64]]:
        """What posts answer, repeat and quote, by whom that is, and their conversations."""
        columns = {}
        for kind, name in _POINTERS.items():
            columns[name] = column(posts, name, 0, np.int64)
            authors = authors_of(columns[name], self.post_id, self._author_id)
            columns[f"{kind}_author_id"] = authors
        columns["conversation_id"] = conversations(self.post_id, columns["reply_to_post_id"])
        return columns


def _topics(topic_ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Topics one post a row, 0 = no more. [N, T], T at most MAX_TOPICS."""
    lists = pc.if_else(pc.is_null(topic_ids), pa.scalar([], topic_ids.type), topic_ids)
    longest = pc.max(pc.list_value_length(lists)).as_py() or 0
    return pad(lists, min(longest, MAX_TOPICS))


def _languages(language: pa.ChunkedArray) -> NDArray[np.str_]:
    """Tags, "" = unknown; what is longer than the column is cut. <U12 [N]."""
    codes = pc.fill_null(language, "").combine_chunks().dictionary_encode()
    tags = np.array(codes.dictionary.to_pylist() or [""], "<U12")
    return tags[codes.indices.to_numpy(zero_copy_only=False)]


def _has_text(text: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether there is more than blanks. bool [N]."""
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(text, ""))
    return pc.greater(pc.utf8_length(trimmed), 0).combine_chunks().to_numpy(zero_copy_only=False)
