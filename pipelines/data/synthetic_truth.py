"""What viewers of the synthetic world do with posts, and weighted draws of posts.

All ids here are 0-based row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.schema import ACTION_NAMES

_DWELL_SHAPE = 0.4  # s of the log-logistic: P(dwell > x) = sigmoid((mu - log x) / s)
_DWELL_S = 10.0  # from here on the `dwell` action counts as done
_MAX_DWELL_S = 300.0


class _Planted(NamedTuple):
    """Log-odds of an action: bias + taste * match + quality * quality, both in [-1, 1]."""

    bias: float
    taste: float
    quality: float

    @property
    def negative(self) -> bool:
        return self.taste < 0


_ACTIONS = {
    "favorite": _Planted(-2.4, 2.0, 1.0),
    "reply": _Planted(-4.0, 1.5, 0.5),
    "repost": _Planted(-4.0, 1.5, 1.2),
    "photo_expand": _Planted(-2.0, 1.0, 0.5),
    "click": _Planted(-1.2, 1.5, 0.3),
    "profile_click": _Planted(-3.2, 1.0, 0.5),
    "share": _Planted(-4.5, 1.2, 1.0),
    "share_via_dm": _Planted(-5.0, 1.2, 0.8),
    "share_via_copy_link": _Planted(-5.5, 1.0, 1.0),
    "quote": _Planted(-5.0, 1.5, 0.8),
    "quoted_click": _Planted(-1.5, 1.2, 0.3),
    "follow_author": _Planted(-4.5, 1.5, 1.5),
    "not_interested": _Planted(-4.4, -1.8, -1.0),
    "block_author": _Planted(-6.2, -1.0, -1.5),
    "mute_author": _Planted(-5.6, -1.5, -1.0),
    "report": _Planted(-6.4, -0.7, -2.0),
}


class Shelves:
    """Weighted draws of members of a group that are old enough."""

    _SPAN = 1 << 42  # above any time in ms

    def __init__(
        self, group: NDArray[np.int64], at_ms: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> None:
        self._order = np.lexsort((at_ms, group))
        self._key = (group * self._SPAN + at_ms)[self._order]
        self._sum = np.concatenate([[0.0], np.cumsum(weight[self._order])])

    def draw(
        self, rng: np.random.Generator, group: NDArray[np.int64], at_ms: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A member of each `group` with a time before `at_ms`, by weight; -1 = there is none."""
        low = np.searchsorted(self._key, group * self._SPAN)
        high = np.searchsorted(self._key, group * self._SPAN + at_ms)
        mass = self._sum[low] + rng.random(len(group)) * (self._sum[high] - self._sum[low])
        place = np.clip(np.searchsorted(self._sum, mass, side="right") - 1, low, high - 1)
        return np.where(high > low, self._order[np.maximum(place, 0)], -1)


@dataclass(frozen=True)
class Truth:
    """All that decides what a viewer does with a post. Axes: U accounts, P posts, T fine topics.

    Attributes:
        taste: share of each topic in each viewer's interest. [U, T], rows sum to 1.
        topic, author: of each post. int64 [P].
        quality: of each post, in [0, 1]. [P].
        spam, quotes: whether the author is a spammer; whether it quotes. bool [P].
        duration_s: length of its video, NaN = a photo. [P].
        follows: follower * U + followee, sorted. int64.
        generosity, temper: log-odds added to positive and to negative actions. [U].
    """

    taste: NDArray[np.float64]
    topic: NDArray[np.int64]
    author: NDArray[np.int64]
    quality: NDArray[np.float64]
    spam: NDArray[np.bool_]
    quotes: NDArray[np.bool_]
    duration_s: NDArray[np.float64]
    follows: NDArray[np.int64]
    generosity: NDArray[np.float64]
    temper: NDArray[np.float64]

    def match(self, user: NDArray[np.int64], post: NDArray[np.int64]) -> NDArray[np.float64]:
        """How much the viewer likes the post's topic, from -1 (not at all) to 1. [n]."""
        likes = np.sqrt(self.taste / self.taste.max(axis=1, keepdims=True))
        return 2 * likes[user, self.topic[post]] - 1

    def meet(self, user: NDArray[np.int64], post: NDArray[np.int64]) -> Meeting:
        """Viewers and posts, pair by pair; both int64 [n]."""
        pair = user * len(self.taste) + self.author[post]
        place = np.searchsorted(self.follows, pair)
        follows = self.follows[np.minimum(place, len(self.follows) - 1)] == pair
        return Meeting(
            match=self.match(user, post),
            quality=2 * self.quality[post] - 1,
            spam=self.spam[post],
            quotes=self.quotes[post],
            duration_s=self.duration_s[post],
            follows=follows,
            generosity=self.generosity[user],
            temper=self.temper[user],
        )


@dataclass(frozen=True)
class Meeting:
    """Viewers and posts, pair by pair; columns as in `Truth`, each [n]."""

    match: NDArray[np.float64]
    quality: NDArray[np.float64]  # -1 to 1
    spam: NDArray[np.bool_]
    quotes: NDArray[np.bool_]
    duration_s: NDArray[np.float64]
    follows: NDArray[np.bool_]
    generosity: NDArray[np.float64]
    temper: NDArray[np.float64]

    def chance(self, action: str) -> NDArray[np.float64]:
        """P(action | the viewer looks); expected seconds for dwell_time. [n]."""
        if action == "dwell_time":
            spread = np.pi * _DWELL_SHAPE / np.sin(np.pi * _DWELL_SHAPE)
            return np.exp(self._log_dwell()) * spread
        if action == "dwell":
            return self._stays(np.full(len(self.match), _DWELL_S))
        if action == "vqv":
            return np.where(self._is_video(), self._stays(self._full_view_s()), 0.0)
        planted = _ACTIONS[action]
        odds = planted.bias + planted.taste * self.match + planted.quality * self.quality
        if planted.negative:
            odds = odds + self.temper + 1.5 * self.spam - 0.5 * self.follows
        else:
            odds = odds + self.generosity + 0.5 * self.follows
        return np.where(self._possible(action), _sigmoid(odds), 0.0)

    def draw(self, rng: np.random.Generator, examined: NDArray[np.bool_]) -> dict[str, NDArray]:
        """What each viewer did: bool [n] per action, and seconds under dwell_time.

        `examined` [n] says who looked; who did not, scrolled past and did nothing.
        """
        uniform = rng.random(len(examined)) * (1 - 1e-12) + 1e-13
        odds = np.log(uniform / (1 - uniform))
        dwell_s = np.minimum(np.exp(self._log_dwell() + _DWELL_SHAPE * odds), _MAX_DWELL_S)
        skipped_s = 0.2 + 0.6 * rng.random(len(examined))
        dwell_s = np.where(examined, dwell_s, skipped_s)
        full = self._is_video() & (dwell_s >= self._full_view_s())
        did = {"dwell_time": dwell_s, "dwell": dwell_s >= _DWELL_S, "vqv": full & examined}
        for name in ACTION_NAMES:
            if name not in did:
                did[name] = (rng.random(len(examined)) < self.chance(name)) & examined
        return did

    def _possible(self, action: str) -> NDArray[np.bool_]:
        impossible = {
            "photo_expand": self._is_video(),
            "quoted_click": ~self.quotes,
            "follow_author": self.follows,
        }
        return ~impossible.get(action, np.zeros(len(self.match), bool))

    def _is_video(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.duration_s)

    def _full_view_s(self) -> NDArray[np.float64]:
        return np.clip(self.duration_s, 1.0, 8.0)

    def _log_dwell(self) -> NDArray[np.float64]:
        """Log of the median dwell in seconds."""
        video = np.where(self._is_video(), 0.4, 0.0)
        return np.log(4.0) + 0.8 * self.match + 0.4 * self.quality + video

    def _stays(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        return _sigmoid((self._log_dwell() - np.log(seconds)) / _DWELL_SHAPE)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))
