"""The same reads the plain way: objects in a dict, a deque per author and kind, a loop over both.

Modelled on how the store was first built elsewhere: newest first per author, at most so many
entries looked at, a look-up for each, the rules, the caps, one sort at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from serve.stores.recent.rows import NewPosts
from serve.stores.recent.store import RecentSettings


@dataclass(slots=True)
class Post:
    """One post."""

    post_id: int
    author_id: int
    created_at_ms: int
    parent_id: int
    parent_author_id: int
    conversation_id: int
    is_repost: bool
    has_video: bool


class Deques:
    """Posts that come in order of their time; nothing is deleted and nothing gets too old."""

    def __init__(self, settings: RecentSettings) -> None:
        self._settings = settings
        self._posts: dict[int, Post] = {}
        self._originals: dict[int, deque[int]] = {}
        self._secondary: dict[int, deque[int]] = {}

    def insert(self, posts: NewPosts) -> None:
        """Add posts, oldest first."""
        columns = (values.tolist() for values in posts.columns().values())
        for values in zip(*columns, strict=True):
            post = Post(*values)
            self._posts[post.post_id] = post
            lists = self._secondary if post.parent_id else self._originals
            lists.setdefault(post.author_id, deque()).append(post.post_id)

    def read(
        self, viewer_id: int, author_ids: list[int], excluded: Iterable[int], max_results: int
    ) -> list[int]:
        """As `RecentPosts.read`."""
        limits, unwanted, followed = self._settings, set(excluded), set(author_ids)
        found: list[Post] = []
        for lists, most in (
            (self._originals, limits.max_originals_per_author),
            (self._secondary, limits.max_secondary_per_author),
        ):
            for author_id in author_ids:
                num = 0
                newest = reversed(lists.get(author_id, ()))
                for post_id in islice(newest, limits.max_scanned_per_list):
                    if num == most:
                        break
                    post = self._posts.get(post_id)
                    if post is None or post_id in unwanted:
                        continue
                    if post.parent_id and not self._allowed(post, viewer_id, followed):
                        continue
                    found.append(post)
                    num += 1
        found.sort(key=lambda post: (post.created_at_ms, post.post_id), reverse=True)
        return [post.post_id for post in found[:max_results]]

    def _allowed(self, post: Post, viewer_id: int, followed: set[int]) -> bool:
        if post.is_repost:
            return post.parent_author_id != viewer_id
        parent = self._posts.get(post.parent_id)
        if parent is None or parent.is_repost:
            return False
        return not parent.parent_id or (
            parent.parent_id == post.conversation_id and post.parent_author_id in followed
        )
