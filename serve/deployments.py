"""The models of a bundle as plain classes: what each deployment does, without Ray.

Axes: B requests answered together, C candidates, A actions, k posts found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.features import candidate_inputs, history_inputs, history_rows
from pipelines.feed.services import Hits
from serve.batching import Batcher
from serve.services import Models, Ranking, Search
from train.bundle import Bundle
from train.models.tokens import tensors

_PIECE = 128  # candidates; smaller pieces repeat the history, larger ones compare strangers


class Retriever:
    """Two-tower retrieval: viewers near posts."""

    def __init__(self, bundle: Bundle) -> None:
        self._tower = bundle.load_two_tower()
        self._spec = self._tower.config.features
        self._index = bundle.load_index()

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        """Answer all `searches` [B] in one pass; each as if it were alone."""
        rows = history_rows([search.history for search in searches])
        with torch.inference_mode():
            query = self._tower.user(tensors(history_inputs(rows, self._spec))).numpy()
        most = max(search.num_posts for search in searches)
        post_id, similarity = self._index.search(query, most)
        found = post_id > 0
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
        self._model = bundle.load_ranker()
        self._spec = self._model.config.features

    def rank(self, rankings: Sequence[Ranking]) -> list[NDArray[np.float32]]:
        """Answer all `rankings` [B] in one pass; each as if it were alone. float32 [C, A] each.

        Candidates are scored as if shown on the ranking's surface, and where that is
        unknown on that of the viewer's newest event.
        Since they never see each other, those of one viewer are scored in pieces: the
        pass costs their number times the piece's, not their number squared. Where the
        model lets a candidate's slot matter, that is its slot in its piece.
        """
        num_pieces = [-(-len(ranking.post_id) // _PIECE) for ranking in rankings]
        owner = np.repeat(np.arange(len(rankings)), num_pieces)
        post_id, author_id = (
            _pieces([getattr(ranking, name) for ranking in rankings], num_pieces)
            for name in ("post_id", "author_id")
        )
        surface = np.array([_surface(ranking) for ranking in rankings])
        surfaces = np.broadcast_to(surface[owner, None], post_id.shape).astype(np.int16)
        rows = history_rows([ranking.history for ranking in rankings])
        inputs = {
            **{name: a[owner] for name, a in history_inputs(rows, self._spec).items()},
            **candidate_inputs(post_id, author_id, surfaces, self._spec),
        }
        p_action = self._model.predict(tensors(inputs)).numpy()
        return [p_action[(owner == row)[:, None] & (post_id > 0)] for row in range(len(rankings))]


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


def _pieces(ids: Sequence[NDArray[np.int64]], num_pieces: Sequence[int]) -> NDArray[np.int64]:
    """Cut each of `ids` into so many pieces, one a row, 0 = padding. int64 [pieces, longest]."""
    pieces = [
        piece
        for whole, num in zip(ids, num_pieces, strict=True)
        for piece in np.array_split(whole, num)
    ]
    out = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
    for row, piece in enumerate(pieces):
        out[row, : len(piece)] = piece
    return out
