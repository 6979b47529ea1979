"""What the feed asks of the outside, answered by a running server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.features import History
from pipelines.feed.services import Graph, Scored, Served
from pipelines.feed.table import Candidates
from pipelines.feed.visibility import Kind
from serve.live.relations import BLOCK, FOLLOW, MUTE
from serve.services import FromBundle, RecordsNothing
from serve.stores.audits import audit as audited
from serve.stores.candidates import CandidateStore
from serve.stores.event_log import EventLog, impressions
from serve.stores.labels import LabelStore
from serve.stores.preferences import PreferenceStore
from serve.stores.viewers.history import history_of
from serve.stores.viewers.store import Page, ViewerStore, before, posts_of


@dataclass(frozen=True)
class ServedFeed(FromBundle):
    """`pipelines.feed.services.Services` of a running server.

    Attributes:
        viewers: what viewers did since the bundle was made, and what they were shown.
        event_log: where impressions go.
        label_store: labels of posts and authors.
        preferences: what viewers want, beside what they do.
        candidates: what was scored for viewers' last pages.
        audit_log: where scores for audit go; None = nowhere.
    """

    viewers: ViewerStore
    event_log: EventLog
    label_store: LabelStore
    preferences: PreferenceStore
    candidates: CandidateStore
    audit_log: EventLog | None

    async def recent_actions(self, user_id: int, at_ms: int) -> History:
        """From the store of viewers; authors are those of the posts."""
        engagements = await self.viewers.engagements(user_id)
        history = history_of(user_id, engagements, self.stores.as_of_ms, at_ms)
        if not len(history.post_id):
            return history
        facts = await self.posts(history.post_id)
        return replace(history, author_id=facts["author_id"])

    async def graph(self, user_id: int) -> Graph:
        """From the bundle, what the viewer said they want, and what they did since.

        None of this asks a store that may be down.
        """
        return await self._graph(user_id, before_ms=None)

    async def served(self, user_id: int) -> Served:
        """From the store of viewers; authors and topics are the posts'."""
        pages = await self._pages(user_id)
        post_id = posts_of(pages)
        facts = await self.posts(post_id)
        at_ms = np.array([page.at_ms for page in pages], np.int64)
        shown_at_ms = np.repeat(at_ms, [len(page.post_id) for page in pages])
        return Served(post_id, facts["author_id"], facts["topic_ids"], shown_at_ms)

    async def labels(self, kind: Kind, ids: NDArray[np.int64], at_ms: int) -> NDArray[np.int64]:
        """From the file that the server was started with, if any."""
        return self.label_store.of(kind, ids, at_ms)

    async def record(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Append the page to the event log."""
        rows = impressions(user_id, request_id, now_ms, surface, page["post_id"])
        self.event_log.append(rows)

    async def remember(
        self, user_id: int, request_id: str, now_ms: int, surface: int, page: Candidates
    ) -> None:
        """Into the store of viewers."""
        await self.viewers.add_page(user_id, Page(request_id, surface, now_ms, page["post_id"]))

    async def cached(self, user_id: int, key: str, after_ms: int, before_ms: int) -> Scored | None:
        """From this process, by the bundle in use."""
        return self.candidates.get(user_id, self._key(key), after_ms, before_ms)

    async def cache(self, user_id: int, key: str, scored: Scored) -> None:
        """In this process."""
        self.candidates.put(user_id, self._key(key), scored)

    async def audit(
        self, user_id: int, request_id: str, now_ms: int, surface: int, pool: Candidates
    ) -> None:
        """Append the posts to the log of audits.

        Raises:
            RuntimeError: the feed is to be audited, and the server was given no log to do it in.
        """
        if self.audit_log is None:
            raise RuntimeError("no audit_log in the server's args")
        request = user_id, request_id, now_ms, surface, self.stores.version
        self.audit_log.append(audited(*request, pool))

    def _key(self, key: str) -> str:
        return f"{self.stores.version}/{key}"

    async def _pages(self, user_id: int) -> Sequence[Page]:
        """Pages that the viewer was shown, oldest first."""
        return await self.viewers.pages(user_id)

    async def _graph(self, user_id: int, before_ms: int | None) -> Graph:
        """What `graph` says, of what was done before some instant, None = now."""
        live = self.stores.live.relations
        graph = self.preferences.of(user_id).added_to(self.stores.graph.of(user_id))
        blockers = live.blocked_by(user_id, before_ms), self.preferences.blocked_by(user_id)
        blocked_by = np.unique(np.concatenate([graph.blocked_by, *blockers]))
        graph = replace(graph, blocked_by=blocked_by)
        action, post_id, author_id = live.posts(user_id, before_ms)
        if not len(post_id):
            return graph
        author_id = np.where(author_id > 0, author_id, (await self.posts(post_id))["author_id"])

        def also(known: NDArray[np.int64], name: str) -> NDArray[np.int64]:
            return np.union1d(known, author_id[(action == name) & (author_id > 0)])

        followed = also(graph.followed, FOLLOW)
        return replace(
            graph,
            followed=followed,
            blocked=also(graph.blocked, BLOCK),
            muted=also(graph.muted, MUTE),
            mutual=self.stores.graph.mutual(user_id, followed),
        )


@dataclass(frozen=True)
class AsItWas(RecordsNothing, ServedFeed):
    """The same, as things stood before `post_id` was last shown; records nothing.

    Answers "why was this post shown?" after showing it has made it a seen post, or has made the
    viewer block its author.

    Attributes:
        shown_at_ms: when that was; None = never, or nobody knows: as things stand now.
    """

    post_id: int
    shown_at_ms: int | None

    async def graph(self, user_id: int) -> Graph:
        """With what was done before."""
        return await self._graph(user_id, self.shown_at_ms)

    async def _pages(self, user_id: int) -> Sequence[Page]:
        """Those before the page in question."""
        return before(await self.viewers.pages(user_id), self.post_id)
