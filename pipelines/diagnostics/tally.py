"""What was counted of posts or authors: the numbers that diagnostics are made of.

Axes: N posts or authors, A actions. NaN = unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.diagnostics.rates import Floats


@dataclass(frozen=True)
class Account:
    """Of the author of each of N posts, or of each of N authors. All float64 [N].

    Attributes:
        num_posts: posts in the bundle.
        shown, followed: showings of all of them, and how often the viewer then followed.
        followers: accounts that follow; unknown where the bundle has no follows.
        centrality: PageRank in the graph of follows, likewise.
        cited: posts by others that reply to, repeat or quote one, per post; unknown where no
            post of the bundle points at another.
        num_dated, regularity: posts with a known time, and how evenly they are spaced.
        num_topical, coherence: posts with a topic, and the chance that two share it.
    """

    num_posts: Floats
    shown: Floats
    followed: Floats
    followers: Floats
    centrality: Floats
    cited: Floats
    num_dated: Floats
    regularity: Floats
    num_topical: Floats
    coherence: Floats


@dataclass(frozen=True)
class Tally:
    """Of N posts, or of N authors. float64 [N], or [N, A] where it says so.

    Attributes:
        shown, done: showings of the whole log, and acts [N, A].
        topical_shown, topical_done: the same of posts that have a topic of which other posts
            were shown.
        expected: acts that those others' rates lead one to expect at as many showings [N, A].
        stays: showings in the profiles whose length was measured.
        quick, long: those of under QUICK_S, and of over LONG_S.
        window, lately: showings in the profiles in the last WINDOW_H hours of the log, and in
            the last LATELY_H of them.
        num_texts, originality: posts with a text (of a post: 0 or 1), and the share of them
            whose text no other post of the bundle has.
        account: of the author.
    """

    shown: Floats
    done: Floats
    topical_shown: Floats
    topical_done: Floats
    expected: Floats
    stays: Floats
    quick: Floats
    long: Floats
    window: Floats
    lately: Floats
    num_texts: Floats
    originality: Floats
    account: Account


QUICK_S, LONG_S = 2.0, 15.0  # what counts as leaving at once, and as staying
WINDOW_H, LATELY_H = 72, 24


@dataclass(frozen=True)
class Base:
    """The log over all, against which posts and authors are held.

    Attributes:
        actions: names, A; weight: what each act is worth to the bundle's value model [A].
        shown, done: showings of the whole log, and acts [A].
        stays, quick, long, window, lately: as in Tally, of all posts.
        to: when the log ends, and so every window. ms since 1970 UTC.
        profiles_from_ms: oldest dated event of the profiles, 0 = there is none.
    """

    actions: tuple[str, ...]
    weight: Floats
    shown: float
    done: Floats
    stays: float
    quick: float
    long: float
    window: float
    lately: float
    to_ms: int
    profiles_from_ms: int

    def rate(self, done: str, shown: str) -> float:
        """One of the counts over another, 0 where that is none."""
        return getattr(self, done) / max(getattr(self, shown), 1.0)

    @property
    def rates(self) -> Floats:
        """Base rate of each action, 0 = the log shows none. [A]."""
        return self.done / max(self.shown, 1.0)

    def weights(self, sign: int) -> Floats:
        """Size of the weights of that sign, of acts that the log shows; the others 0. [A]."""
        return np.where(self.done > 0, np.maximum(sign * self.weight, 0), 0.0)


@dataclass(frozen=True)
class Surfaces:
    """Showings in the profiles by product surface, of one post or author and of all. [n] each.

    `worth` is the sum of the weights of the positive acts there.
    """

    surface: NDArray[np.int64]
    shown: Floats
    worth: Floats
    base_shown: Floats


@dataclass(frozen=True)
class Reach:
    """Whether an author's followers get the author's posts, as far as the profiles tell.

    Attributes:
        followers: known to the bundle; profiles: those of them with events in the log.
        reached: those of them to whom a post of the author was shown.
        shown, in_network: showings of the author's posts, and those to followers.
        base_shown, base_in_network: the same of all authors.
    """

    followers: int
    profiles: int
    reached: int
    shown: int
    in_network: int
    base_shown: int
    base_in_network: int
