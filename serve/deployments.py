"""The models of a bundle as plain classes: what each deployment does, without Ray.

Axes: B requests answered together, C candidates, A actions, k posts found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.features import Inputs, candidate_inputs, history_inputs, history_rows
from pipelines.feed.services import Hits
from serve.batching import Batcher
from serve.services import Models, Ranking, Search
from train.bundle import Bundle
from train.models.tokens import tensors


class Retriever:
    """Two-tower retrieval: viewers near posts."""

    def __init__(self, bundle: Bundle) -> None:
        self._tower = bundle.load_two_tower()
        self._spec = self._tower.config.features
        self._index, self._facts = bundle.load_index(), bundle.facts

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        """Answer all `searches` [B] in one pass; each as if it were alone."""
        rows = history_rows([s.history for s in searches], [s.at_ms for s in searches])
        with torch.inference_mode():
            query = self._tower.user(tensors(history_inputs(rows, self._spec, self._facts))).numpy()
        most = max(search.num_posts for search in searches)
        post_id, similarity = self._index.search(query, most)
        placed = query.any(axis=1, keepdims=True)  # of nobody else is any post near
        found = (post_id > 0) & placed
        return [
            Hits(
                post_id[row, found[row]][: search.num_posts],
                similarity[row, found[row]][: search.num_posts],
            )
            for row, search in enumerate(searches)
        ]


class Ranker:
    """Phoenix: what a viewer would do with each candidate."""

    def __init__(self, bundle: Bundle) -> None:
        self._model, self._facts = bundle.load_ranker(), bundle.facts
        self._spec = self._model.config.features

    def rank(self, rankings: Sequence[Ranking]) -> list[NDArray[np.float32]]:
        """Answer all `rankings` [B] in one pass; each as if it were alone. float32 [C, A] each.

        Candidates are scored as if shown on the ranking's surface at its time, and where the
        surface is unknown on that of the viewer's newest event.
        """
        return [
            p_action[: len(ranking.post_id)]
            for ranking, p_action in zip(
                rankings, self._model.predict(tensors(self.inputs(rankings))).numpy(), strict=True
            )
        ]

    def inputs(self, rankings: Sequence[Ranking]) -> Inputs:
        """What the model reads, as `features.example_inputs` gives it in training."""
        rows = history_rows([r.history for r in rankings], [r.at_ms for r in rankings])
        post_id, author_id = (
            _padded([getattr(ranking, name) for ranking in rankings])
            for name in ("post_id", "author_id")
        )
        surface, at_ms = (
            np.where(post_id > 0, np.array(values)[:, None], 0)
            for values in (list(map(_surface, rankings)), [r.at_ms for r in rankings])
        )
        candidates = candidate_inputs(
            rows, post_id, author_id, surface, at_ms, self._spec, self._facts
        )
        return {**history_inputs(rows, self._spec, self._facts), **candidates}


class Scorer:
    """The value model: what a page is worth to the feed."""

    def __init__(self, bundle: Bundle) -> None:
        self._weights = bundle.weights

    def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sum of predictions times weights. float32 [C, A] -> float64 [C]."""
        return p_action @ self._weights


def local_models(bundle: Bundle) -> Models:
    """All three models in this process, concurrent requests batched."""
    scorer = Scorer(bundle)

    async def value(p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        return scorer.value(p_action)

    return Models(Batcher(Retriever(bundle).search), Batcher(Ranker(bundle).rank), value)


def _surface(ranking: Ranking) -> int:
    newest = ranking.history.surface[-1:]
    return ranking.surface or int(newest.sum())  # 0 for a viewer without a history


def _padded(ids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Lists of ids one a row, 0 = padding. int64 [B, longest]."""
    out = np.zeros((len(ids), max(map(len, ids))), np.int64)
    for row, mine in enumerate(ids):
        out[row, : len(mine)] = mine
    return out
