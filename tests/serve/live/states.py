"""States of a replica over a small bundle, what happens to them, and all that the feed can ask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from pipelines.schema import POSTS
from serve import api_events
from serve.live import snapshots
from serve.live.messages import Message, happened, in_order, message
from serve.live.snapshot_file import PARTS
from serve.live.snapshots import Snapshots, SnapshotSettings, Start
from serve.live.state import LiveState, StateSettings
from serve.stores.posts import PostStore
from serve.stores.recent import RecentPosts
from tests.serve.live.happenings import deletion, post

NOW_MS = 100_000
BUNDLE = pa.Table.from_pylist(
    [
        {"post_id": n, "author_id": n, "created_at_ms": 1_000, "text": "old", "topic_ids": []}
        for n in (1, 2)
    ],
    schema=POSTS.arrow,
)
POST_ID, AT_MS = st.integers(1, 6), st.integers(2_000, 2_009)


def act(user_id: int, post_id: int, action: str, at_ms: int) -> Message:
    """What a viewer did."""
    return message(
        api_events.Engagement(
            kind="engagement", user_id=user_id, post_id=post_id, action=action, at_ms=at_ms
        )
    )


def by_its_author(post_id: int, at_ms: int, text: str) -> Message:
    """A post was published, once more perhaps: others cannot do that in its author's place."""
    return post(post_id, post_id, at_ms, text)


MESSAGES = st.lists(
    st.builds(by_its_author, POST_ID, AT_MS, st.sampled_from(["rain", "snow"]))
    | st.builds(deletion, POST_ID, AT_MS)
    | st.builds(
        act,
        st.integers(1, 3),
        POST_ID,
        st.sampled_from(["favorite", "block_author", "follow_author"]),
        AT_MS,
    ),
    max_size=14,
    unique_by=lambda one: one.name,
)


def state(**bounds: int) -> LiveState:
    """One that knows nothing."""
    return LiveState(RecentPosts(), lambda: NOW_MS, StateSettings(**bounds))


def shown(live: LiveState, as_of_ms: int = 1_000) -> PostStore:
    """The store of the bundle, in use."""
    store = live.over(BUNDLE, as_of_ms)
    live.adopt(store, as_of_ms)
    return store


def apply(live: LiveState, messages: list[Message], size: int = 1_000) -> None:
    """As the follower hands messages on, `size` at a time."""
    for first in range(0, len(messages), size):
        for part in in_order(messages[first : first + size]):
            live.apply(happened(part)[0])


def known(live: LiveState, store: PostStore) -> dict[str, object]:
    """All that the feed can ask."""
    ids = np.arange(1, 8)
    facts = store.facts(ids)
    return {
        **{n: facts[n].tolist() for n in ("known", "author_id")},
        "created_at_s": facts["created_at_s"][facts["known"]].tolist(),
        "words": store.mention(ids, ("rain",))[facts["known"]].tolist(),
        "counts": live.counts.of(ids).tolist(),
        "relations": [sorted(map(str, zip(*live.relations.posts(n), strict=True))) for n in ids],
        "blocked_by": [live.relations.blocked_by(n).tolist() for n in ids],
        "recent": [live.recent.read(9, [n], (), NOW_MS, 9).post_id.tolist() for n in ids],
    }


class Named:
    """A journal that has a name."""

    def __init__(self, name: str = "a") -> None:
        self.name = name

    def identity(self) -> str:
        return self.name


def saved(live: LiveState, folder: Path, position: Mapping[str, int], every_s: float = 0.0) -> None:
    """Make a snapshot, whenever the last one was."""
    settings = SnapshotSettings(directory=str(folder), every_s=every_s or 1e-9)
    writer = Snapshots(settings, live.freeze, Named())
    writer.checkpoint(position, {("posts", "p"): ("a", 3), ("posts", "q"): None})
    writer.close()
    assert writer.problem is None


def started(
    folder: Path, name: str = "a", as_of_ms: int = 1_000, live: LiveState | None = None
) -> tuple[LiveState, Start]:
    """A state that begins with what is in the folder."""
    live = live or state()
    return live, begin(live, SnapshotSettings(directory=str(folder)), Named(name), as_of_ms)


def begin(live: LiveState, settings: SnapshotSettings, journal: object, as_of_ms: int) -> Start:
    """As a replica does before its first bundle."""
    restore = partial(live.restore, as_of_ms=as_of_ms)
    return snapshots.start(settings, journal, PARTS, restore, live.recent.settings)
