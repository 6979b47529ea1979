"""The models of a bundle as plain classes: what each deployment does, without Ray.

Axes: B requests answered together, C candidates, A actions, k posts found.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from configs import Config
from pipelines.features import Inputs, candidate_inputs, history_inputs, history_rows
from pipelines.feed.services import Interference
from serve.batching import Batcher
from serve.context_caches import ContextCaches
from serve.interference import InterferenceFields
from serve.models import Interfering, Models, Ranking, version
from serve.passes import Passes
from serve.retriever import Retriever, RetrieverSettings
from serve.score_cache import ScoreCache
from train.bundle import Bundle
from train.models.package import CompileSettings
from train.models.quantised import quantised
from train.models.text_towers import TextRanker
from train.models.tokens import tensors

_log = logging.getLogger("ray.serve")


class RankerSettings(Config):
    """How candidates are scored."""

    # Of what was computed of viewers, kept for their next request; bytes per replica, 0 = none.
    context_bytes: NonNegativeInt = 128 * 2**20
    # Of what was predicted for a viewer's last page, given again while nothing that it was computed
    # from has changed, as in another page within the hour or an explanation; bytes per replica, 0 =
    # none. Needs kept contexts, and a ranker whose candidates are anchored.
    score_bytes: NonNegativeInt = 0
    # Of each viewer; more are scored one block after another, which bounds the memory of a pass.
    candidates_at_once: PositiveInt = 1024
    # Run the machine code that a bundle brings (python -m train.bundle.compiled), in the shapes of
    # `compile` or in all that there are. Only of bundles from whom you would run a program.
    machine_code: bool = False
    # Passes of these shapes are compiled before a bundle is served, if no machine code is taken;
    # None = they are eager. Where nothing can be compiled they are, too, and the log says why.
    compile: CompileSettings | None = None
    # Weights and kept contexts as int8, a quarter of the memory; scores differ a little. Faster
    # where the ranker is wide or many candidates are scored by compiled passes: README, "Int8
    # weights".
    int8: bool = False

    @model_validator(mode="after")
    def _each_does_something(self) -> RankerSettings:
        if self.score_bytes and not self.context_bytes:
            raise ValueError(f"score_bytes: {self.score_bytes} with context_bytes: 0 keeps nothing")
        if self.int8 and self.machine_code:
            raise ValueError("machine_code with int8: a bundle's is of float32; take compile")
        return self


class Ranker:
    """Phoenix: what a viewer would do with each candidate."""

    def __init__(self, bundle: Bundle, settings: RankerSettings | None = None) -> None:
        settings = settings or RankerSettings()
        model, self._facts = bundle.load_ranker(), bundle.facts
        self._spec = model.config.features
        self._model: Passes | TextRanker
        self._contexts: ContextCaches | None = None
        self._scores: ScoreCache | None = None
        if isinstance(model, TextRanker):  # has no context, and does little else than look up
            if settings != RankerSettings():
                _log.warning("settings of ranking change nothing: this ranker reads texts alone")
            self._model = model
            return
        if settings.int8:
            model = quantised(model)
        self._model = Passes(model, settings.candidates_at_once)
        there, shapes = bundle.package, settings.compile
        inputs, loaded = partial(bundle.unknown_inputs, self._spec), False
        if settings.machine_code and there is None:
            _log.warning("the bundle brings no machine code, which ranking.machine_code asks for")
        elif settings.machine_code and there is not None:
            loaded = self._model.load(there, shapes, inputs)
        if shapes is not None and not loaded:
            self._model.compile(shapes, inputs)
        if settings.score_bytes and not model.config.anchored:
            _log.warning("ranking.score_bytes keeps nothing: this ranker is not anchored")
        if settings.context_bytes:
            room, int8 = settings.context_bytes, settings.int8
            contexts = ContextCaches(self._model, version(bundle), room, int8)
            self._contexts = contexts
            if settings.score_bytes and model.config.anchored:
                self._scores = ScoreCache(
                    contexts.keys,
                    lambda inputs: contexts.predict(inputs).numpy(),
                    self._spec.num_actions,
                    settings.score_bytes,
                )

    def rank(self, rankings: Sequence[Ranking]) -> list[NDArray[np.float32]]:
        """Answer all `rankings` [B] in one pass; each as if it were alone. float32 [C, A] each.

        Candidates are scored as if shown on the ranking's surface at its time, and where the
        surface is unknown on that of the viewer's newest event.
        """
        answers = self._predict(self.inputs(rankings))
        return [
            p_action[: len(ranking.post_id)]
            for ranking, p_action in zip(rankings, answers, strict=True)
        ]

    def _predict(self, inputs: Inputs) -> NDArray[np.float32]:
        if self._scores is not None:
            return self._scores.predict(inputs)
        if self._contexts is None:
            return self._model.predict(tensors(inputs)).numpy()
        return self._contexts.predict(inputs).numpy()

    def inputs(self, rankings: Sequence[Ranking]) -> Inputs:
        """What the model reads, as `features.example_inputs` gives it in training."""
        facts = self._facts  # the same for all inputs, whatever is added meanwhile
        rows = history_rows([r.history for r in rankings], [r.at_ms for r in rankings])
        post_id, author_id = (
            _padded([getattr(ranking, name) for ranking in rankings])
            for name in ("post_id", "author_id")
        )
        surface, at_ms = (
            np.where(post_id > 0, np.array(values)[:, None], 0)
            for values in (list(map(_surface, rankings)), [r.at_ms for r in rankings])
        )
        candidates = candidate_inputs(rows, post_id, author_id, surface, at_ms, self._spec, facts)
        return {**history_inputs(rows, self._spec, facts), **candidates}

    def add_posts(self, posts: pa.Table, content: NDArray[np.float32] | None) -> None:
        """As `new_posts.Knows`: they are ranked by all that a bundle would know of them."""
        self._facts = self._facts.with_posts(posts, content)

    def remove_posts(self, post_id: NDArray[np.int64]) -> None:
        """As `new_posts.Knows`."""
        self._facts = self._facts.without_posts(post_id)

    def stats(self) -> Mapping[str, float]:
        """As `ContextCaches.stats` and `ScoreCache.stats`, for metrics; empty of what is off."""
        caches = {"contexts": self._contexts, "scores": self._scores}
        return {
            f"{kind}_{name}": value
            for kind, cache in caches.items()
            if cache is not None
            for name, value in cache.stats().items()
        }


class Scorer:
    """The value model: what a page is worth to the feed; and the interference field beside it."""

    def __init__(self, bundle: Bundle) -> None:
        self._weights = bundle.weights
        self.fields = InterferenceFields(bundle)  # new posts are handed to it

    async def interference(self, asked: Interfering) -> Interference:
        """As `InterferenceFields.interference`, on a thread."""
        return await asyncio.to_thread(self.fields.interference, asked)

    def value(self, p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sum of predictions times weights. float32 [C, A] -> float64 [C]."""
        return p_action @ self._weights


def local_models(
    bundle: Bundle,
    retrieval: RetrieverSettings | None = None,
    ranking: RankerSettings | None = None,
) -> Models:
    """All three models in this process, concurrent requests batched."""
    return models_of(Retriever(bundle, retrieval), Ranker(bundle, ranking), Scorer(bundle))


def models_of(retriever: Retriever, ranker: Ranker, scorer: Scorer) -> Models:
    """These three, concurrent requests batched."""

    async def value(p_action: NDArray[np.float32]) -> NDArray[np.float64]:
        return scorer.value(p_action)

    return Models(
        Batcher(retriever.search),
        Batcher(ranker.rank),
        value,
        similarity=Batcher(retriever.similarity),
        near=Batcher(retriever.near),
        interference=scorer.interference,
    )


def _surface(ranking: Ranking) -> int:
    newest = ranking.history.surface[-1:]
    return ranking.surface or int(newest.sum())  # 0 for a viewer without a history


def _padded(ids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Lists of ids one a row, 0 = padding. int64 [B, longest]."""
    out = np.zeros((len(ids), max(map(len, ids))), np.int64)
    for row, mine in enumerate(ids):
        out[row, : len(mine)] = mine
    return out
