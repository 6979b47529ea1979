"""The synthetic world as a closed loop: pages are made, viewers act, and their acts come back.

Every round each viewer asks for one page of posts not shown before. A post's value is its rate of
favorites so far, drawn to its author's, plus α times the interference field of what the viewer
liked, the loop's own likes among it. So α has a best value: at 0 all viewers get the same posts,
and a large one forgets which posts are any good. What viewers do is drawn from the planted truth;
posts' vectors are made of their words.

Axes: U viewers, P posts, C candidates, L places of a page, n liked posts, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from configs import Config
from pipelines.data.synthetic import SyntheticConfig, World
from pipelines.schema import DAY_MS
from train.models.fractal.config import FieldConfig
from train.models.fractal.field import fit

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
_FADES = 0.15  # of places, as in the world's own log
_PRIOR = 20.0  # showings that an author's rate counts as


class LoopWorld(SyntheticConfig):
    """Size of the world; half of its log is known before the first round."""

    num_users: PositiveInt = 300
    num_posts: PositiveInt = 3_000


class LoopConfig(Config):
    """A world, and how its viewers are served."""

    world: LoopWorld = LoopWorld()
    num_rounds: PositiveInt = 40  # spread over the second half of the log's days
    num_candidates: PositiveInt = 100  # posts scored for a page
    page: PositiveInt = 10
    max_liked: PositiveInt = 50  # newest liked posts that send waves
    width: PositiveInt = 32  # of posts' vectors
    field: FieldConfig = FieldConfig()


def word_vectors(texts: list[str], width: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors [P, D]: each word has a direction at random, a text the sum of its words'."""
    words = {word: at for at, word in enumerate(sorted({w for t in texts for w in t.split()}))}
    direction = np.random.default_rng(seed).standard_normal((len(words), width))
    summed = np.stack([direction[[words[w] for w in t.split()]].sum(0) for t in texts])
    return (summed / np.linalg.norm(summed, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Loop:
    """One run of the world under some way to choose α.

    Two runs of the same settings draw the same candidates and the same luck: what differs comes
    of α.
    """

    config: LoopConfig
    world: World
    vectors: NDArray[np.float32]  # [P, D]
    seed: int
    round: int = 0
    seen: NDArray[np.bool_] = field(init=False)  # [U, P]
    liked: Ids = field(init=False)  # newest last, -1 before the first. [U, n]
    shown: Floats = field(init=False)  # showings and favorites of each post so far. [2, P]

    def __post_init__(self) -> None:
        """Begin where the first half of the log ends."""
        users, posts = self.config.world.num_users, self.config.world.num_posts
        self.seen = np.zeros((users, posts), np.bool_)
        self.liked = np.full((users, self.config.max_liked), -1)
        self.shown = np.zeros((2, posts))
        log = self.world.events
        before = log["shown_at_ms"].to_numpy() < self._now_ms()
        user, post = (log[name].to_numpy()[before] - 1 for name in ("user_id", "post_id"))
        self._remember(user, post, log["favorite"].to_numpy(zero_copy_only=False)[before])

    def serve(self, alpha: Floats | float) -> tuple[Floats, Floats]:
        """One round.

        Args:
            alpha: of each viewer's page, or one for all. [U].

        Returns:
            Favorites on each viewer's page, and their expectation, which only an oracle
            knows. float64 [U] each.
        """
        config, users = self.config, np.arange(self.config.world.num_users)
        rng = np.random.default_rng([self.seed, self.round])
        candidates = self._candidates(rng)
        value = self._rates()[candidates]
        weight = np.broadcast_to(alpha, users.shape)[:, None]
        value = value + weight * self._fields(candidates)
        best = np.argsort(-value, axis=1, kind="stable")[:, : config.page]
        page = np.take_along_axis(candidates, best, axis=1)  # [U, L]
        user, post = np.repeat(users, config.page), page.ravel()
        looked = 1 / (1 + _FADES * np.arange(config.page))
        chance = self.world.truth.meet(user, post).chance("favorite").reshape(page.shape) * looked
        # Luck belongs to viewer and post, wherever on the page it stands.
        luck = rng.random((len(users), config.world.num_posts))
        did = np.take_along_axis(luck, page, axis=1) < chance
        self._remember(user, post, did.ravel())
        self.round += 1
        return did.sum(1).astype(float), chance.sum(1)

    def _now_ms(self) -> int:
        days = self.config.world.num_days * (0.5 + 0.5 * self.round / self.config.num_rounds)
        return self.config.world.start_ms + int(days * DAY_MS)

    def _candidates(self, rng: np.random.Generator) -> Ids:
        """Posts drawn alike for each viewer among those there and not shown yet. [U, C].

        Raises:
            ValueError: a viewer has seen all but a few.
        """
        there = self.world.posts["created_at_ms"].to_numpy() < self._now_ms()
        key = rng.random(self.seen.shape)
        key[self.seen | ~there] = 2.0
        num = self.config.num_candidates
        drawn = np.argpartition(key, num, axis=1)[:, :num]
        if (np.take_along_axis(key, drawn, axis=1) > 1).any():
            raise ValueError(f"world.num_posts: too few for {self.config.num_rounds} rounds")
        return np.sort(drawn, axis=1)

    def _rates(self) -> Floats:
        """Favorites per showing, drawn to the author's. [P]."""
        author = self.world.truth.author
        shown, liked = (np.bincount(author, x, author.max() + 1) for x in self.shown)
        overall = self.shown[1].sum() / max(1.0, self.shown[0].sum())
        of_author = (liked + _PRIOR * overall) / (shown + _PRIOR)
        return (self.shown[1] + _PRIOR * of_author[author]) / (self.shown[0] + _PRIOR)

    def _fields(self, candidates: Ids) -> Floats:
        """Of each viewer at each candidate. [U, C]."""
        length = (self.liked >= 0).sum(1)
        # Newest last and no holes: rolled so that padding comes last.
        place = (np.arange(self.liked.shape[1]) - length[:, None]) % self.liked.shape[1]
        liked = np.take_along_axis(self.liked, place, axis=1)
        history = torch.from_numpy(self.vectors[np.maximum(liked, 0)])
        made = fit(history, lengths=torch.from_numpy(length), config=self.config.field)
        return made.score(torch.from_numpy(self.vectors[candidates])).total.double().numpy()

    def _remember(self, user: Ids, post: Ids, did: NDArray[np.bool_]) -> None:
        """What was shown, and what was liked."""
        self.seen[user, post] = True
        np.add.at(self.shown[0], post, 1.0)
        np.add.at(self.shown[1], post, did.astype(float))
        for viewer, liked in zip(user[did].tolist(), post[did].tolist(), strict=True):
            self.liked[viewer, :-1] = self.liked[viewer, 1:]
            self.liked[viewer, -1] = liked
