"""Posts that were published and deleted, their texts' vectors, and a model that is told of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.data.encoder import EncoderSettings
from pipelines.schema import DELETIONS, ENGAGEMENTS, POSTS
from serve.live.messages import Happened
from serve.models import Search
from serve.stores.profiles import ProfileStore
from train.bundle import Bundle

SIZE = 12  # of a text vector
LATER = 40  # newest posts, by id, that one bundle has and the other has not
CREATED_MS = 1_770_000_000_000


def told(posts: pa.Table | None = None, deleted: dict[int, int] | None = None) -> Happened:
    """Posts were published, others deleted at some time."""
    columns = {"post_id": list(deleted or {}), "deleted_at_ms": list((deleted or {}).values())}
    return Happened(
        posts=(posts or POSTS.arrow.empty_table()).select(POSTS.arrow.names).cast(POSTS.arrow),
        deletions=pa.table(columns, DELETIONS.arrow),
        engagements=ENGAGEMENTS.arrow.empty_table(),
    )


def made_up(ids: list[int], created_at_ms: int = CREATED_MS) -> pa.Table:
    """Posts of one author, each with a text."""
    rows = [
        {
            "post_id": one,
            "author_id": 3,
            "created_at_ms": created_at_ms + one,
            "text": f"post {one}",
        }
        for one in ids
    ]
    return pa.Table.from_pylist(rows, POSTS.arrow)


def text_of(post_id: int) -> np.ndarray:
    """The vector of a post's text, as float16 as an encoder gives it."""
    vector = np.random.default_rng(post_id).normal(size=SIZE)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def make_encoder(_: EncoderSettings):
    """An encoder that reads texts like "post 7"."""
    return lambda texts: np.stack([text_of(int(text.split()[-1])) for text in texts])


def searches(bundle: Bundle, num: int, topic_ids: tuple[int, ...] = ()) -> list[Search]:
    """What some viewers would ask for now."""
    profiles = ProfileStore(bundle.profiles)
    known = [h for user_id in range(1, 40) if (h := profiles.history(user_id))]
    return [Search(history, num, bundle.as_of_ms + 60_000, topic_ids) for history in known[:12]]


class Recorder:
    """A model that only remembers what it was told; it fails while `broken`."""

    def __init__(self) -> None:
        self.posts: list[int] = []
        self.removed: list[int] = []
        self.content: list[np.ndarray | None] = []
        self.broken = False

    def add_posts(self, posts: pa.Table, content: np.ndarray | None) -> None:
        if self.broken:
            raise ConnectionError("the index is down")
        self.posts += posts["post_id"].to_pylist()
        self.content.append(content)

    def remove_posts(self, post_id: np.ndarray) -> None:
        if self.broken:
            raise ConnectionError("the index is down")
        self.removed += post_id.tolist()
        self.posts = [one for one in self.posts if one not in set(post_id.tolist())]
