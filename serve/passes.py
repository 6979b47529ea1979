"""A ranker's passes over any number of viewers and candidates, in blocks of shapes set beforehand.

Scores of a candidate depend on no other, and those of a viewer on no other: blocks score alike.

Axes: B viewers, T slots of a context, C candidates, A actions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from configs import Config
from train.models.compiled import compiled, compiler_problem
from train.models.context import ContextCache, joined
from train.models.ranker import Ranker
from train.models.tokens import Tensors

_log = logging.getLogger("ray.serve")


class CompileSettings(Config):
    """Shapes that a ranker is compiled for before it serves; each takes half a minute or so."""

    # Viewers and candidates of one pass: fewer are padded to the next, more are several passes.
    viewers: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    candidates: tuple[PositiveInt, ...] = Field(default=(64, 256, 512), min_length=1)

    @field_validator("viewers", "candidates")
    @classmethod
    def _ascend(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError(f"{list(sizes)} do not ascend")
        return sizes


class Passes:
    """A ranker's `context`, `extended` and `predict`, which give what the ranker itself gives."""

    def __init__(self, model: Ranker, candidates_at_once: int) -> None:
        """Begin without compilation: all viewers at once, and so many candidates of each."""
        self._model = model
        self._at_once = candidates_at_once
        self._contexts: dict[int, Callable[[Tensors], ContextCache]] = {}
        self._scores: dict[tuple[int, int], Callable[[ContextCache, Tensors], Tensor]] = {}

    @property
    def compiled(self) -> bool:
        """Whether passes are compiled."""
        return bool(self._scores)

    def compile(self, settings: CompileSettings, inputs: Callable[[int, int], Tensors]) -> None:
        """Compile for all shapes, and call each once; where that fails, stay as before and log why.

        Args:
            settings: the shapes.
            inputs: makes inputs of both sides, of so many viewers with so many candidates, with
                the shapes and dtypes that those of requests have.
        """
        packed, started = self._model.config, time.monotonic()
        try:
            if problem := compiler_problem():
                raise RuntimeError(problem)  # one way out, whatever fails
            # Numbers of slots that hold something are no static shapes; scores are the same.
            self._model.config = packed.model_copy(update={"packed": False})
            for b in settings.viewers:
                self._contexts[b] = compiled(self._model.context)
                for c in settings.candidates:
                    self._scores[b, c] = compiled(self._model.score_candidates)
            for shape in self._scores:
                self.predict(inputs(*shape))
        except Exception as error:  # compilers fail in many ways, and scores are the same without
            self._model.config = packed
            self._contexts, self._scores = {}, {}
            _log.warning("the ranker is not compiled: %s", str(error) or repr(error))
        else:
            took_s = time.monotonic() - started
            _log.info("the ranker is compiled for %d shapes: %.1f s", len(self._scores), took_s)

    @torch.inference_mode()
    def context(self, inputs: Tensors) -> ContextCache:
        """As `Ranker.context`."""
        inputs = {n: v for n, v in inputs.items() if not n.startswith("candidate_")}
        if not self.compiled:
            return self._model.context(inputs)
        parts = []
        for rows, size in _blocks(len(inputs["user_hashes"]), sorted(self._contexts)):
            block = {n: _padded(v[rows], 0, size) for n, v in inputs.items()}
            parts.append((self._contexts[size](block), rows.stop - rows.start))
        return joined([viewer for part, num in parts for viewer in part.viewers()[:num]])

    def extended(self, context: ContextCache, inputs: Tensors) -> ContextCache:
        """As `Ranker.extended`; never compiled, since contexts are of any length here."""
        return self._model.extended(context, inputs)

    @torch.inference_mode()
    def score_candidates(self, context: ContextCache, inputs: Tensors) -> Tensor:
        """As `Ranker.score_candidates`."""
        there = inputs["candidate_post_hashes"][..., 0] != 0
        B, C = there.shape
        viewers, candidates = [B], [self._at_once]
        if self.compiled:
            viewers, candidates = (sorted(set(sizes)) for sizes in zip(*self._scores, strict=True))
        liked = "history_" if self._model.config.likeness else "candidate_"
        inputs = {n: v for n, v in inputs.items() if n.startswith(("candidate_", liked))}
        logits = torch.zeros(B, C, self._model.config.features.num_actions)
        for rows, b in _blocks(B, viewers):
            num = int((torch.arange(1, C + 1) * there[rows]).max())  # behind them lies padding
            for columns, c in _blocks(num, candidates):
                found = self._block(context, inputs, rows, columns, (b, c))
                logits[rows, columns] = found[
                    : rows.stop - rows.start, : columns.stop - columns.start
                ]
        return logits

    @torch.inference_mode()
    def predict(self, inputs: Tensors, context: ContextCache | None = None) -> Tensor:
        """As `Ranker.predict`."""
        context = self.context(inputs) if context is None else context
        return self._model.predictions(self.score_candidates(context, inputs))

    def _block(
        self,
        context: ContextCache,
        inputs: Tensors,
        rows: slice,
        columns: slice,
        shape: tuple[int, int],
    ) -> Tensor:
        """Logits of some of the viewers and candidates; of the whole shape where compiled."""
        start = context.start[rows]
        if not self._model.config.anchored:
            start = start + columns.start  # candidates stand one after another
        layers = tuple((key[rows], value[rows]) for key, value in context.layers)
        block = ContextCache(layers, context.seen[rows], start)
        mine = {n: v[rows, columns] if n[0] == "c" else v[rows] for n, v in inputs.items()}
        if not self.compiled:
            return self._model.score_candidates(block, mine)
        b, c = shape
        T = self._model.tokens.num_leading + self._model.config.features.history_len
        mine = {n: _padded(_padded(v, 1, c) if n[0] == "c" else v, 0, b) for n, v in mine.items()}
        block = ContextCache(
            tuple(
                (_padded(_padded(key, 2, T), 0, b), _padded(_padded(value, 2, T), 0, b))
                for key, value in layers
            ),
            _padded(_padded(block.seen, 1, T), 0, b),
            _padded(start, 0, b),
        )
        return self._scores[shape](block, mine)


def _blocks(num: int, sizes: Sequence[int]) -> list[tuple[slice, int]]:
    """Which of `num` are computed together, and the first of `sizes`, ascending, that holds them.

    Blocks of the largest size, and one of what is left.
    """
    most = sizes[-1]
    spans = [slice(start, min(start + most, num)) for start in range(0, num, most)]
    return [(span, next(s for s in sizes if s >= span.stop - span.start)) for span in spans]


def _padded(x: Tensor, axis: int, size: int) -> Tensor:
    """The same with zeros behind, contiguous: compiled code takes nothing else."""
    if missing := size - x.shape[axis]:
        x = F.pad(x, [0, 0] * (x.dim() - axis - 1) + [0, missing])
    return x.contiguous()
