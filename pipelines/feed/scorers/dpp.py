from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from pipelines.feed.services import Services
from pipelines.feed.stages import FeedQuery, Scorer
from pipelines.feed.table import Candidates, Columns


@dataclass(frozen=True, kw_only=True)
class Dpp(Scorer):
    """Puts posts in an order of both worth and variety: a determinantal point process.

    Of the `pool` best posts it picks one after the other whichever makes the determinant of
    the picked ones' kernel q_i q_j cos(e_i, e_j) largest: q = exp(alpha · score / best score)
    with alpha = theta / (2 (1 - theta)), so that at theta 0 only variety counts and near 1
    only the score; e are vectors of what posts are about, a repost's those of the original.
    Picked posts come first, by score (`order: picked` shows them as they were picked, which
    varies the top of a page more and costs more worth); then the rest of the pool, then all
    others. A post without a vector keeps its place; where no post has one, nothing moves. No
    score changes.
    """

    needs = ("post_id", "repost_of_post_id", "score")
    provides: ClassVar = {
        "dpp_place": np.int64,  # in the order, 0 = first
        "dpp_moved": np.int64,  # places down from where the score alone would put it
    }
    fails = "open"  # the order is then that of scores
    theta: Annotated[float, Field(ge=0, le=0.99)] = 0.65
    pool: PositiveInt = 150
    picks: PositiveInt = 50
    min_gain: PositiveFloat = 1e-6  # no post that adds less variety is picked
    order: Literal["score", "picked"] = "score"

    async def score(self, query: FeedQuery, posts: Candidates, services: Services) -> Columns:
        """Ask for the vectors of the pool, then pick."""
        score = posts["score"]
        by_score = np.argsort(-score, kind="stable")
        pool = by_score[: self.pool]
        repost_of = posts["repost_of_post_id"][pool]
        vectors = await services.vectors(np.where(repost_of > 0, repost_of, posts.post_id[pool]))
        order = by_score.copy()
        if not vectors.shape[1]:
            return _places(order, by_score)  # as in most logs
        length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
        movable = (length > 0) & np.isfinite(score[pool])
        if movable.any():
            rows = pool[movable]
            picked = self.pick(score[rows], vectors[movable] / length[movable, None])
            if self.order == "score":
                picked = np.sort(picked)
            order[np.flatnonzero(movable)] = rows[
                np.r_[picked, np.setdiff1d(np.arange(len(rows)), picked)]
            ]
        return _places(order, by_score)

    def pick(self, score: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.int64]:
        """Greedy choice by incremental Cholesky: what each post still adds is kept up to date.

        Args:
            score: not below 0, best first. [n].
            vectors: of length 1. [n, E].

        Returns:
            Rows in the order picked; of equal ones the first. int64 [at most picks].
        """
        alpha, best = self.theta / (2 * (1 - self.theta)), score.max(initial=0)
        quality = np.exp(alpha * score / best) if best > 0 else np.ones(len(score))
        kernel = quality[:, None] * quality * (vectors @ vectors.T)
        gain, picked = np.diagonal(kernel).copy(), np.empty(0, np.int64)
        rows = np.empty((min(self.picks, len(score)), len(score)))  # of the Cholesky factor
        for number in range(len(rows)):
            best_row = int(np.argmax(gain))
            if not gain[best_row] > self.min_gain:
                break
            known = rows[:number, best_row] @ rows[:number]
            rows[number] = (kernel[best_row] - known) / np.sqrt(gain[best_row])
            gain = gain - rows[number] ** 2
            picked = np.r_[picked, best_row]
            gain[picked] = -np.inf
        return picked

    def describe(self, posts: Candidates, row: int) -> str | None:
        """Say how far it was moved."""
        moved = int(posts["dpp_moved"][row])
        if moved == 0:
            return None
        places = "1 place" if abs(moved) == 1 else f"{abs(moved)} places"
        return f"{places} {'down' if moved > 0 else 'up'} for variety"


def _places(order: NDArray[np.int64], by_score: NDArray[np.int64]) -> Columns:
    """Where each post is in `order`, and how far that is from where its score puts it."""
    place, before = np.empty_like(order), np.empty_like(order)
    place[order] = before[by_score] = np.arange(len(order))
    return {"dpp_place": place, "dpp_moved": place - before}
