"""Counts of a bundle's posts, authors and viewers, gathered from its stores for diagnostics.

What a viewer did before the log began is not counted: of that time only what was watched is
known, not what was shown.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.diagnostics.rates import Needed, centrality, regularity, same_kind
from pipelines.diagnostics.tally import (
    Account,
    Base,
    Reach,
    Surfaces,
    Tally,
)
from pipelines.facts import Facts, find
from serve.dated import Events
from serve.stores.bundle import Stores

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
_END_MS = 2**52  # later than any count
_POINTERS = ("reply_to_post_id", "repost_of_post_id", "quote_of_post_id")


class Tallies:
    """Counts by post and by author; takes time in proportion to the profiles and posts.

    Attributes:
        post_id: sorted. [N].
        author_id: of the posts that have one, sorted. [M].
        base: the log over all.
    """

    def __init__(self, stores: Stores, as_of_ms: int, needed: Needed) -> None:
        """Count what `stores` hold, whose log ends at `as_of_ms`."""
        self._facts: Facts = stores.facts
        self._graph = stores.graph
        table = stores.posts.bundle
        self.post_id = table.post_id
        posts = table.facts(self.post_id)
        self._created_at_ms = np.nan_to_num(posts["created_at_s"] * 1000).astype(np.int64)
        author_of_post = posts["author_id"]
        self.author_id = np.unique(author_of_post[author_of_post > 0])
        self._author = find(author_of_post, self.author_id)  # of each post
        self._topic = stores.facts.topic[stores.facts.post_row(self.post_id)][:, 0]
        self._text = table.texts()
        self._pointers = [posts[name] for name in _POINTERS]
        self.events = Events.of(stores, self.post_id, self._author, as_of_ms)
        self.base = self._base(stores, as_of_ms)
        self._min_others = needed.showings(self.base.rates, self.base.weights(1))

    def posts(self, post_id: Ids) -> Tally:
        """Counts of posts [N] that are in the bundle."""
        rows = find(post_id, self.post_id)
        counts = self._counts("post", post_id)
        expected, known = self._expected(rows, counts)
        return Tally(
            shown=counts[:, 0],
            done=counts[:, 1:],
            topical_shown=np.where(known, counts[:, 0], 0),
            topical_done=np.where(known[:, None], counts[:, 1:], 0),
            expected=np.where(known[:, None], expected, np.nan),
            **{name: values[rows] for name, values in self._of_events["post"].items()},
            num_texts=(self._text[rows] > 0).astype(np.float64),
            originality=self._original[rows],
            account=self._account(self._author[rows]),
        )

    def authors(self, author_id: Ids) -> Tally:
        """Counts of authors [N] that are in the bundle."""
        places = find(author_id, self.author_id)
        num = len(places)
        which = np.full(len(self.author_id) + 1, -1)
        which[places] = np.arange(num)
        rows = np.flatnonzero(which[self._author] >= 0)  # their posts; [-1] is nobody's
        owner = which[self._author[rows]]
        of_posts = self._counts("post", self.post_id[rows])
        expected, known = self._expected(rows, of_posts)
        topical = _sums(owner[known], of_posts[known], num)
        expected = _sums(owner[known], expected[known], num)
        some = topical[:, 0] > 0
        counts = self._counts("author", author_id)
        texts = self._text[rows] != 0
        num_texts = np.bincount(owner[texts], minlength=num).astype(np.float64)
        original = np.bincount(owner[texts], weights=self._original[rows][texts], minlength=num)
        return Tally(
            shown=counts[:, 0],
            done=counts[:, 1:],
            topical_shown=topical[:, 0],
            topical_done=topical[:, 1:],
            expected=np.where(some[:, None], expected, np.nan),
            **{name: values[places] for name, values in self._of_events["author"].items()},
            num_texts=num_texts,
            originality=_over(original, num_texts),
            account=self._account(places),
        )

    def author_of(self, post_id: int) -> int:
        """Who wrote a post of the bundle, 0 = unknown."""
        place = self._author[find(np.array([post_id]), self.post_id)[0]]
        return int(self.author_id[place]) if place >= 0 else 0

    def surfaces(self, kind: str, one_id: int) -> Surfaces:
        """Where one "post" or "author" was shown, of the dated events."""
        ids = self.post_id if kind == "post" else self.author_id
        events = self.events
        mine = getattr(events, kind) == find(np.array([one_id]), ids)[0]
        num = int(events.surface.max(initial=0)) + 1
        shown, base_shown = (
            np.bincount(s, minlength=num) for s in (events.surface[mine], events.surface)
        )
        worth = np.bincount(events.surface[mine], weights=events.worth[mine], minlength=num)
        return Surfaces(
            np.arange(num), *(of.astype(np.float64) for of in (shown, worth, base_shown))
        )

    def reach(self, author_id: int) -> Reach | None:
        """Whether followers are shown the author's posts; None where nobody follows anyone."""
        if not len(self._graph.edges()[0]):
            return None
        events = self.events
        followers = self._graph.followers(author_id)
        mine = events.author == find(np.array([author_id]), self.author_id)[0]
        to_follower = np.isin(events.user_id[mine], followers)
        return Reach(
            followers=len(followers),
            profiles=int(np.isin(followers, events.user_id).sum()),
            reached=len(np.unique(events.user_id[mine][to_follower])),
            shown=int(mine.sum()),
            in_network=int(to_follower.sum()),
            base_shown=int((events.author >= 0).sum()),
            base_in_network=int(self.in_network.sum()),
        )

    @cached_property
    def in_network(self) -> NDArray[np.bool_]:
        """Whether the viewer of each dated event follows the author. [E]."""
        follower, followee = self._graph.edges()
        users, author = np.unique(self.events.user_id), find(followee, self.author_id)
        user = find(follower, users)
        both = (user >= 0) & (author >= 0)
        follows = user[both] * len(self.author_id) + author[both]
        seen = find(self.events.user_id, users) * len(self.author_id) + self.events.author
        return np.isin(seen, follows) & (self.events.author >= 0)

    def _base(self, stores: Stores, as_of_ms: int) -> Base:
        num = len(stores.blend.actions)
        counts = self._facts.counts("all", np.array([1]), np.array([_END_MS]), num)[0]
        dated = self.events.at_ms
        return Base(
            actions=tuple(stores.blend.actions),
            weight=np.asarray(stores.blend.own, np.float64),
            shown=float(counts[0]),
            done=counts[1:].astype(np.float64),
            to_ms=as_of_ms,
            profiles_from_ms=int(dated.min()) if len(dated) else 0,
            **{name: float(np.sum(mask)) for name, mask in self.events.masks(as_of_ms).items()},
        )

    @cached_property
    def _of_events(self) -> dict[str, dict[str, Floats]]:
        """Stays and recent showings of every post and author, by kind and field of Tally."""
        masks = self.events.masks(self.base.to_ms)
        kinds = {
            "post": (self.events.post, len(self.post_id)),
            "author": (self.events.author, len(self.author_id)),
        }
        return {
            kind: {
                name: np.bincount(of[mask & (of >= 0)], minlength=num).astype(np.float64)
                for name, mask in masks.items()
            }
            for kind, (of, num) in kinds.items()
        }

    def _counts(self, kind: str, ids: Ids) -> Floats:
        """Showings and acts of the whole log. [n, 1 + A]."""
        at_ms = np.full(len(ids), _END_MS)
        counts = self._facts.counts(kind, ids, at_ms, len(self.base.actions))
        return counts.astype(np.float64)

    def _expected(self, rows: Ids, counts: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Acts at the rates of other posts on the same first topic, where those were shown enough.

        Args:
            rows: of posts. [n].
            counts: theirs. [n, 1 + A].

        Returns:
            Acts [n, A], and whether the topic's rates are known [n].
        """
        others = self._counts("topic", self._topic[rows]) - counts
        known = (self._topic[rows] > 0) & (others[:, 0] >= self._min_others)
        rate = _over(others[:, 1:], others[:, :1])
        return np.nan_to_num(rate) * counts[:, :1], known

    @cached_property
    def _original(self) -> Floats:
        """1 = no other post has the text, 0 = one has, NaN = there is none. [N]."""
        _, place, count = np.unique(self._text, return_inverse=True, return_counts=True)
        return np.where(self._text == 0, np.nan, (count[place] == 1).astype(np.float64))

    @cached_property
    def _accounts(self) -> dict[str, Floats]:
        """The fields of Account of every author; the last row is nobody. [M + 1] each."""
        num, author = len(self.author_id), self._author
        dated, topical = (
            (author >= 0) & (values > 0) for values in (self._created_at_ms, self._topic)
        )
        num_posts = np.bincount(author[author >= 0], minlength=num).astype(np.float64)
        counts = self._counts("author", self.author_id)
        values = {
            "num_posts": num_posts,
            "shown": counts[:, 0],
            "followed": counts[:, 1 + self.base.actions.index("follow_author")],
            "cited": self._cited() / num_posts,
            "num_dated": np.bincount(author[dated], minlength=num).astype(np.float64),
            "regularity": regularity(author[dated], self._created_at_ms[dated], num),
            "num_topical": np.bincount(author[topical], minlength=num).astype(np.float64),
            "coherence": same_kind(author[topical], self._topic[topical], num),
            **self._standing(),
        }
        return {name: np.append(column, np.nan) for name, column in values.items()}

    def _account(self, places: Ids) -> Account:
        return Account(**{name: values[places] for name, values in self._accounts.items()})

    def _cited(self) -> Floats:
        """Posts by others that point at each author's; NaN where no post points at any. [M]."""
        num = np.zeros(len(self.author_id))
        for pointer in self._pointers:
            at = find(pointer, self.post_id)
            target = np.where(at >= 0, self._author[at], -1)
            num += np.bincount(target[(target >= 0) & (target != self._author)], minlength=len(num))
        return num if any((pointer > 0).any() for pointer in self._pointers) else num * np.nan

    def _standing(self) -> dict[str, Floats]:
        """Followers and centrality of each author; unknown where nobody follows anyone. [M]."""
        follower, followee = self._graph.edges()
        if not len(follower):
            return dict.fromkeys(("followers", "centrality"), np.full(len(self.author_id), np.nan))
        people = np.unique(np.concatenate([follower, followee]))
        of, to = find(follower, people), find(followee, people)
        rank, num = centrality(of, to, len(people)), np.bincount(to, minlength=len(people))
        at = find(self.author_id, people)
        return {
            "followers": np.where(at >= 0, num[at], 0).astype(np.float64),
            "centrality": np.where(at >= 0, rank[at], 0.0),
        }


def _sums(owner: Ids, values: Floats, num: int) -> Floats:
    """Sum of the rows [n, K] of each of `num` owners. [num, K]."""
    out = np.zeros((num, values.shape[1]))
    np.add.at(out, owner, values)
    return out


def _over(values: NDArray, by: NDArray) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by > 0, values / by, np.nan)
