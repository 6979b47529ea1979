"""Draws the synthetic world: accounts, follows, posts, and what the feed shows to whom.

What is planted is described in synthetic.py. All ids here are 0-based row numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from configs import Config
from pipelines.data.synthetic_truth import Shelves, Truth
from pipelines.schema import DAY_MS

_BACKLOG_DAYS = 7.0  # posts are written for this long before the log begins
_FRESH_DAYS = 2.0  # a post is shown e times less after this long


class SyntheticConfig(Config):
    """Size and seed of a world."""

    seed: int = 0
    num_users: PositiveInt = 500  # accounts, all of them viewers
    num_authors: int = Field(default=100, ge=2)  # accounts that also write
    num_posts: PositiveInt = 2_000
    num_events: PositiveInt = 10_000
    num_coarse: int = Field(default=4, ge=2)  # coarse topics
    num_fine: int = Field(default=4, ge=2)  # fine topics under each coarse one
    spam_share: float = Field(default=0.06, ge=0, le=1)  # of authors
    start_ms: PositiveInt = 1_767_225_600_000  # the log begins: 2026-01-01T00:00Z
    num_days: PositiveFloat = 14.0  # length of the log
    page_size: PositiveInt = 10  # most posts shown per request

    @model_validator(mode="after")
    def _authors_are_accounts(self) -> SyntheticConfig:
        if self.num_authors > self.num_users:
            raise ValueError("num_authors: at most num_users, since authors are accounts")
        return self


def tastes(rng: np.random.Generator, config: SyntheticConfig) -> NDArray[np.float64]:
    """Share of each fine topic in each viewer's interest. [U, T], rows sum to 1."""
    coarse = rng.gamma(0.25, size=(config.num_users, config.num_coarse, 1)) + 1e-3
    fine = rng.gamma(0.4, size=(config.num_users, config.num_coarse, config.num_fine)) + 1e-2
    taste = (coarse * fine / fine.sum(2, keepdims=True)).reshape(config.num_users, -1)
    return taste / taste.sum(1, keepdims=True)


def authors(rng: np.random.Generator, config: SyntheticConfig) -> tuple[NDArray, ...]:
    """Fame, primary and secondary fine topic, quality in [0, 1] and spam flag. Each [N]."""
    num, fine = config.num_authors, config.num_fine
    fame = rng.permutation(np.arange(1, num + 1) ** -0.8)
    home = rng.integers(config.num_coarse * fine, size=num)
    away = home // fine * fine + rng.integers(fine, size=num)  # a sibling topic, or the same
    spam = rng.random(num) < config.spam_share
    quality = np.where(spam, 0.05, rng.beta(2, 2, num))
    return fame, home, away, quality, spam


def follows(
    rng: np.random.Generator,
    config: SyntheticConfig,
    taste: NDArray[np.float64],
    fame: NDArray[np.float64],
    home: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Follower and followee, 0-based, sorted and distinct: like follows like. int64 [E, 2]."""
    degree = rng.lognormal(2.0, 0.7, config.num_users).astype(np.int64)
    follower = np.repeat(np.arange(config.num_users), np.minimum(degree, config.num_authors))
    topic = _pick(rng, taste, follower)
    alike = Shelves(home, np.zeros_like(home), fame).draw(rng, topic, np.ones_like(topic))
    famous = rng.choice(config.num_authors, len(follower), p=fame / fame.sum())
    followee = np.where((alike >= 0) & (rng.random(len(follower)) < 0.8), alike, famous)
    edges = np.unique(np.stack([follower, followee], axis=1), axis=0)
    return edges[edges[:, 0] != edges[:, 1]]


def posts(
    rng: np.random.Generator,
    config: SyntheticConfig,
    fame: NDArray[np.float64],
    home: NDArray[np.int64],
    away: NDArray[np.int64],
    quality: NDArray[np.float64],
    spam: NDArray[np.bool_],
) -> dict[str, NDArray]:
    """Posts in the order of writing: columns [P]; kind 0 original, 1 reply, 2 repost, 3 quote."""
    num = config.num_posts
    busy = (fame**0.3) * np.where(spam, 3.0, 1.0)
    author = rng.choice(config.num_authors, num, p=busy / busy.sum())
    topic = np.where(rng.random(num) < 0.8, home[author], away[author])
    span_ms = (_BACKLOG_DAYS + config.num_days) * DAY_MS
    first_ms = config.start_ms - int(_BACKLOG_DAYS * DAY_MS)
    at_ms = np.sort(first_ms + (rng.random(num) * span_ms).astype(np.int64))
    kind = rng.choice(4, num, p=[0.68, 0.15, 0.09, 0.08])
    kind[spam[author]] = 0  # spam answers nobody
    # Nobody answers a repost, so reposts weigh nothing as parents.
    parents = Shelves(topic, at_ms, np.where(kind == 2, 1e-12, 1.0))
    parent = np.where(kind > 0, parents.draw(rng, topic, at_ms), -1)
    parent[(parent >= 0) & (kind[parent] == 2)] = -1
    kind[parent < 0] = 0
    own = np.clip(0.6 * quality[author] + 0.4 * rng.beta(2, 2, num), 0, 1)
    own[spam[author]] *= 0.3
    duration_s = np.where(rng.random(num) < 0.5, rng.lognormal(3.0, 0.8, num), np.nan)
    repost = kind == 2
    for column in (own, duration_s):
        column[repost] = column[parent[repost]]
    return {
        "author": author,
        "topic": topic,
        "at_ms": at_ms,
        "kind": kind,
        "parent": parent,
        "quality": own,
        "duration_s": duration_s,
    }


def _pick(
    rng: np.random.Generator, taste: NDArray[np.float64], user: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A fine topic for each of `user`, by their taste. int64 [n]."""
    num_topics = taste.shape[1]
    edges = (np.arange(len(taste))[:, None] + np.cumsum(taste, axis=1)).ravel()
    place = np.searchsorted(edges, user + rng.random(len(user)), side="right")
    return np.clip(place - user * num_topics, 0, num_topics - 1)


def _requests(
    rng: np.random.Generator, config: SyntheticConfig, num: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Viewer and time of each feed request, oldest first. int64 [R] each."""
    activity = rng.lognormal(0, 0.6, config.num_users)
    peak_h = rng.normal(19, 3, config.num_users)
    user = rng.choice(config.num_users, num, p=activity / activity.sum())
    hour = np.where(rng.random(num) < 0.8, rng.normal(peak_h[user], 3), rng.random(num) * 24) % 24
    day = np.floor(rng.random(num) * np.ceil(config.num_days))
    days = day + hour / 24
    days = np.where(days < config.num_days, days, rng.random(num) * config.num_days)
    order = np.argsort(days, kind="stable")
    return user[order], config.start_ms + (days[order] * DAY_MS).astype(np.int64)


def _show(
    rng: np.random.Generator,
    config: SyntheticConfig,
    truth: Truth,
    written_ms: NDArray[np.int64],
    user: NDArray[np.int64],
    at_ms: NDArray[np.int64],
    following: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """A post for each slot: of a followed author, on a liked topic, or popular; -1 = none."""
    worth = np.exp(1.5 * truth.quality + rng.normal(0, 0.7, len(truth.quality)))
    age = (written_ms - written_ms.max()) / (_FRESH_DAYS * DAY_MS)
    weight = worth * np.exp(np.maximum(age, -600))
    first = np.searchsorted(truth.follows, user * config.num_users)
    degree = np.searchsorted(truth.follows, (user + 1) * config.num_users) - first
    edge = np.minimum(first + (rng.random(len(user)) * degree).astype(np.int64), first + degree - 1)
    followee = truth.follows[np.maximum(edge, 0)] % config.num_users
    topic = _pick(rng, truth.taste, user)
    source = rng.random(len(user))
    popular = Shelves(np.zeros_like(truth.topic), written_ms, weight)
    post = popular.draw(rng, np.zeros_like(user), at_ms)
    found = Shelves(truth.topic, written_ms, weight).draw(rng, topic, at_ms)
    post = np.where((source < 0.7) & (found >= 0), found, post)
    found = Shelves(truth.author, written_ms, weight).draw(rng, followee, at_ms)
    return np.where(((source < 0.3) | following) & (degree > 0) & (found >= 0), found, post)


def pages(
    rng: np.random.Generator,
    config: SyntheticConfig,
    truth: Truth,
    written_ms: NDArray[np.int64],
) -> dict[str, NDArray]:
    """Which post was shown to whom, where and when: columns [n], n = num_events."""
    num_requests = int(1.5 * config.num_events / config.page_size) + 20
    viewer, asked_ms = _requests(rng, config, num_requests)
    following = rng.random(num_requests) < 0.25  # the Following tab rather than For You
    request = np.repeat(np.arange(num_requests), config.page_size)
    user, at_ms = viewer[request], asked_ms[request]
    post = _show(rng, config, truth, written_ms, user, at_ms, following[request])
    pair = user * config.num_posts + post
    first = np.zeros(len(pair), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    kept = first & (post >= 0) & (truth.author[post] != user)
    request = request[kept]
    size = np.bincount(request, minlength=num_requests)
    if size.sum() < config.num_events:
        raise ValueError(
            f"num_events: {config.num_events} asked, but only {size.sum()} showings of posts not "
            "yet seen were found; raise num_posts or num_users"
        )
    position = np.arange(len(request)) - (np.cumsum(size) - size)[request]
    order = rng.permutation(num_requests)  # leave out whole requests, all over the log
    room = config.num_events - (np.cumsum(size[order]) - size[order])
    allowed = np.empty(num_requests, np.int64)
    allowed[order] = np.clip(room, 0, size[order])
    within = position < allowed[request]
    return {
        "user": user[kept][within],
        "post": post[kept][within],
        "asked_ms": at_ms[kept][within],
        "request": request[within],
        "position": position[within],
        "surface": np.where(following[request[within]], 2, 1),
    }
