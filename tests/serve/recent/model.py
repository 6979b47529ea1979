"""The store of recent posts as one slow loop over all posts: what `RecentPosts` must agree with."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.stores.recent.store import RecentSettings


@dataclass
class Post:
    """One post as it is written."""

    post_id: int
    author_id: int
    created_at_ms: int
    parent_id: int = 0
    parent_author_id: int = 0
    conversation_id: int = 0
    is_repost: bool = False
    has_video: bool = False

    @property
    def is_original(self) -> bool:
        """Neither a reply nor a repost."""
        return not self.parent_id

    @property
    def is_reply(self) -> bool:
        """It answers its parent."""
        return bool(self.parent_id) and not self.is_repost


@dataclass
class Model:
    """All posts that ever came, and the latest deletion or restoration of each."""

    settings: RecentSettings
    now_ms: int = 0
    posts: dict[int, Post] = field(default_factory=dict)
    marks: dict[int, tuple[int, bool, int]] = field(default_factory=dict)  # at, deleted, until

    @property
    def retention_ms(self) -> int:
        """How long posts are there."""
        return self.settings.retention_s * 1000

    def tick(self, now_ms: int) -> None:
        """Time does not go back."""
        self.now_ms = max(self.now_ms, now_ms)

    def mark(self, post_id: int) -> tuple[int, bool, int] | None:
        """What is remembered of a post's deletion or restoration."""
        mark = self.marks.get(post_id)
        return mark if mark and mark[2] >= self.now_ms else None

    def is_deleted(self, post_id: int) -> bool:
        """Whether that is a deletion."""
        mark = self.mark(post_id)
        return mark is not None and mark[1]

    def held(self, post_id: int) -> Post | None:
        """The post, deleted or not, unless it is too old."""
        post = self.posts.get(post_id)
        young = post and post.created_at_ms >= self.now_ms - self.retention_ms
        return post if young else None

    def there(self, post_id: int) -> Post | None:
        """The post, unless it is too old or deleted."""
        return None if self.is_deleted(post_id) else self.held(post_id)

    def insert(self, posts: list[Post], now_ms: int) -> int:
        """As `RecentPosts.insert`."""
        self.tick(now_ms)
        num = 0
        for post in posts:
            created_at_ms = min(post.created_at_ms, self.now_ms)
            if post.created_at_ms > self.now_ms + self.settings.max_ahead_s * 1000:
                continue
            if created_at_ms < self.now_ms - self.retention_ms or self.held(post.post_id):
                continue
            self.posts.pop(post.post_id, None)
            self.posts[post.post_id] = Post(**{**vars(post), "created_at_ms": created_at_ms})
            if mark := self.mark(post.post_id):
                until_ms = max(mark[2], created_at_ms + self.retention_ms)
                self.marks[post.post_id] = (*mark[:2], until_ms)
            num += 1
        return num

    def set_mark(self, post_id: int, at_ms: int, deleted: bool, now_ms: int) -> None:
        """As `RecentPosts.delete` or `restore` of one post."""
        self.tick(now_ms)
        mark = self.mark(post_id)
        if mark is None or (at_ms, deleted) >= mark[:2]:
            self.marks[post_id] = (at_ms, deleted, self.now_ms + self.retention_ms)

    def read(
        self,
        viewer_id: int,
        author_ids: list[int],
        excluded: list[int],
        now_ms: int,
        max_results: int,
        videos: bool,
    ) -> list[tuple[int, float]]:
        """As `RecentPosts.read`: post and seconds."""
        self.tick(now_ms)
        limits = self.settings
        authors = set(author_ids[: limits.max_authors])
        unwanted = set(excluded[: limits.max_excluded])
        lists: dict[tuple[int, bool], list[Post]] = {}
        for post in self.posts.values():
            if post.author_id in authors and self.there(post.post_id):
                secondary = not videos and not post.is_original
                lists.setdefault((post.author_id, secondary), []).append(post)
        found = []
        for (_, secondary), posts in lists.items():
            posts.sort(key=lambda post: (-post.created_at_ms, -post.post_id))
            shown = [
                post
                for post in posts[: limits.max_scanned_per_list]
                if post.post_id not in unwanted
                and self.allowed(post, viewer_id, authors)
                and (not videos or self.is_video(post))
            ]
            most = limits.max_secondary_per_author if secondary else limits.max_originals_per_author
            found += shown[: limits.max_videos_per_author if videos else most]
        found.sort(key=lambda post: (-post.created_at_ms, -post.post_id))
        return [(post.post_id, post.created_at_ms / 1000) for post in found[:max_results]]

    def allowed(self, post: Post, viewer_id: int, authors: set[int]) -> bool:
        """The rules of replies and reposts."""
        if post.is_original:
            return True
        held, parent = self.held(post.parent_id), self.there(post.parent_id)
        author_id = post.parent_author_id or (held.author_id if held else 0)
        if post.is_repost:
            return author_id != viewer_id and not self.is_deleted(post.parent_id)
        if parent is None or parent.is_repost:
            return False
        if parent.is_original:
            return True
        root = self.there(parent.parent_id)
        conversation_id = post.conversation_id
        if not conversation_id and root is not None and root.is_original:
            conversation_id = root.post_id
        return conversation_id == parent.parent_id and author_id in authors

    def is_video(self, post: Post) -> bool:
        """The rule of videos."""
        if post.is_reply:
            return False
        source = self.there(post.parent_id) if post.is_repost else None
        return post.has_video or bool(source and source.has_video and not source.is_reply)

    def gauges(self) -> dict[str, int]:
        """What `RecentPosts.stats` says there is, but for rows."""
        posts = [post for post_id in self.posts if (post := self.there(post_id))]
        originals = sum(post.is_original for post in posts)
        return {
            "users": len({post.author_id for post in posts}),
            "posts": len(posts),
            "original_posts": originals,
            "secondary_posts": len(posts) - originals,
            "video_posts": sum(map(self.is_video, posts)),
            "deleted_posts": sum(map(self.is_deleted, self.marks)),
        }
