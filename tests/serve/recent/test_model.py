"""The store of recent posts agrees with a list of all posts, whatever happens in whatever order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from serve.stores.recent import store as recent
from serve.stores.recent.lists import Held
from serve.stores.recent.rows import Columns, NewPosts
from serve.stores.recent.store import RecentPosts, RecentSettings
from tests.serve.recent.model import Model, Post

SMALL = {"max_authors": 6, "max_excluded": 5, "max_scanned_per_list": 7, "max_concurrent": 1}
CAPS = {"max_originals_per_author": 4, "max_secondary_per_author": 3, "max_videos_per_author": 3}
WORLDS = {  # settings, authors, posts: ids that come again and again
    "caps, trims by itself": (SMALL | CAPS | {"max_late_posts": 40}, 8, 150),
    "caps, trimmed now and then": (SMALL | CAPS, 8, 150),
    "long lists": ({"max_late_posts": 100}, 3, 250),
    "many authors": ({"max_scanned_per_list": 2, "max_late_posts": 60}, 60, 120),
}
NUM_STEPS = 1_150  # about 24 operations each: more than 100,000 in all worlds


def new_posts(posts: list[Post]) -> NewPosts:
    """Posts as the store takes them."""
    return NewPosts(**{f.name: [getattr(post, f.name) for post in posts] for f in fields(NewPosts)})


class Interrupted(RecentPosts):
    """A store in which things happen while it sorts."""

    meanwhile: list[Callable[[], None]] = []  # noqa: RUF012

    def _sorted(self, held: Held, frozen: Columns, now_ms: int) -> Held:
        happens, self.meanwhile = self.meanwhile, []
        for step in happens[::2]:
            step()
        made = super()._sorted(held, frozen, now_ms)
        for step in happens[1::2]:
            step()
        return made


class Twins:
    """The store and the model, which are told the same things at random."""

    def __init__(self, seed: int, world: str, folder: Path) -> None:
        settings, self.num_authors, self.num_posts = WORLDS[world]
        self.settings = RecentSettings(retention_s=40, max_ahead_s=3, **settings)
        self.random = random.Random(seed)
        self.store, self.model = Interrupted(self.settings), Model(self.settings)
        self.file = folder / "recent.npz"
        self.now_ms, self.num_operations = 1_000_000_000_000, 0

    def step(self) -> None:
        """Let something happen."""
        self.now_ms += self.random.choice([0, 0, 500, 1000, 1000, 3000])
        if self.random.random() < 0.005:
            self.now_ms += 50_000  # everything is too old
        weights = {self.insert: 6, self.mark: 4, self.read: 8, self.trim: 0.5, self.reload: 0.1}
        self.random.choices(list(weights), list(weights.values()))[0]()

    def told_ms(self) -> int:
        """What time the store is told; clocks differ."""
        return self.now_ms - self.random.choice([0, 0, 0, 2000])

    def insert(self) -> None:
        """Posts come: late, early, twice, with parents that are there, come later, or never."""
        posts = [self.post() for _ in range(self.random.randint(0, 130))]
        told_ms = self.told_ms()
        assert self.store.insert(new_posts(posts), told_ms) == self.model.insert(posts, told_ms)
        self.num_operations += len(posts)

    def post(self) -> Post:
        """Any post."""
        chance, some = self.random.random, self.random.randint
        ago_ms = some(-5, 45) * 1000 if chance() < 0.5 else some(0, 8) * 1000
        post = Post(some(1, self.num_posts), some(1, self.num_authors), self.now_ms - ago_ms)
        if chance() < 0.6:
            post.parent_id = some(1, self.num_posts)
            post.is_repost = chance() < 0.4
            parent = self.model.posts.get(post.parent_id)
            if chance() < 0.4:
                post.parent_author_id = parent.author_id if parent else some(1, self.num_authors)
            if chance() < 0.5:
                post.conversation_id = parent.parent_id if parent else some(1, self.num_posts)
        post.has_video = chance() < 0.3
        return post

    def mark(self) -> None:
        """Posts are deleted or restored, some before they come."""
        deleted = self.random.random() < 0.6
        ids = [self.random.randint(1, self.num_posts) for _ in range(self.random.randint(0, 16))]
        at_ms = [self.now_ms - 1000 * self.random.randint(-2, 10) for _ in ids]
        told_ms = self.told_ms()
        (self.store.delete if deleted else self.store.restore)(ids, at_ms, told_ms)
        self.model.tick(told_ms)
        for post_id, at in zip(ids, at_ms, strict=True):
            self.model.set_mark(post_id, at, deleted, told_ms)
        self.num_operations += len(ids)

    def read(self) -> None:
        """Somebody reads; the same is found."""
        some = self.random.randint
        request = {
            "viewer_id": some(1, self.num_authors),
            "author_ids": [some(1, self.num_authors + 2) for _ in range(some(0, 12))],
            "excluded": [some(1, self.num_posts) for _ in range(some(0, 8))],
            "now_ms": self.told_ms(),
            "max_results": some(1, 25),
            "videos": self.random.random() < 0.3,
        }
        hits = self.store.read(**request)
        found = list(zip(hits.post_id.tolist(), hits.value.tolist(), strict=True))
        assert found == self.model.read(**request)
        self.num_operations += 1

    def trim(self) -> None:
        """The store tidies up, and things happen while it does."""
        steps = [self.insert, self.mark, self.read]
        self.store.meanwhile = self.random.choices(steps, k=self.random.randint(0, 4))
        told_ms = self.told_ms()
        self.model.tick(told_ms)
        self.store.trim(told_ms)
        self.store.meanwhile = []
        gauges = self.model.gauges()
        stats = self.store.stats()
        assert {name: stats[name] for name in gauges} == gauges
        self.num_operations += 1

    def reload(self) -> None:
        """The store is saved and another one loads it."""
        self.store.save(self.file)
        self.store = Interrupted.load(self.file, self.settings)
        self.num_operations += 1


@pytest.mark.parametrize("world", WORLDS)
def test_store_is_the_model(world, tmp_path, monkeypatch):
    """Whatever comes in whatever order, every read finds what a loop over all posts finds."""
    monkeypatch.setattr(recent, "_FEW_WRITES", 1)
    twins = Twins(seed=len(world), world=world, folder=tmp_path)
    for _ in range(NUM_STEPS):
        twins.step()
    assert twins.num_operations > 25_000
