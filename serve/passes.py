"""A ranker's passes over any number of viewers and candidates, in blocks of shapes set beforehand.

Scores of a candidate depend on no other, and those of a viewer on no other: blocks score alike.

Axes: B viewers, T slots of a context, C candidates, A actions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from train.models.compiled import compiled, compiler_problem
from train.models.context import ContextCache, joined
from train.models.package import (
    CompileSettings,
    ContextPass,
    Inputs,
    Package,
    ScorePass,
    load_package,
    unpacked,
)
from train.models.ranker import Ranker
from train.models.tokens import Tensors

_log = logging.getLogger("ray.serve")


class Passes:
    """A ranker's `context`, `extended` and `predict`, which give what the ranker itself gives."""

    def __init__(self, model: Ranker, candidates_at_once: int) -> None:
        """Begin without compilation: all viewers at once, and so many candidates of each."""
        self._model = model
        self._at_once = candidates_at_once
        self._contexts: dict[int, ContextPass] = {}
        self._scores: dict[tuple[int, int], ScorePass] = {}

    @property
    def compiled(self) -> bool:
        """Whether passes are compiled."""
        return bool(self._scores)

    def load(self, package: Package, shapes: CompileSettings | None, inputs: Inputs) -> bool:
        """Use what was compiled beforehand; where it does not fit, stay as before and log why.

        Args:
            package: of this ranker.
            shapes: those of passes; None = all of the package.
            inputs: as of `compile`.

        Returns:
            Whether passes are compiled now.
        """
        return self._become(
            "the ranker is not taken as its bundle has it compiled",
            lambda: load_package(package, self._model, shapes, inputs),
            inputs,
        )

    def compile(self, settings: CompileSettings, inputs: Inputs) -> bool:
        """Compile for all shapes, and call each once; where that fails, stay as before and log why.

        Args:
            settings: the shapes; each takes half a minute or so.
            inputs: makes inputs of both sides, of so many viewers with so many candidates, with
                the shapes and dtypes that those of requests have.

        Returns:
            Whether passes are compiled now.
        """

        def compiling() -> tuple[dict[int, ContextPass], dict[tuple[int, int], ScorePass]]:
            if problem := compiler_problem():
                raise RuntimeError(problem)  # one way out, whatever fails
            return (
                {b: compiled(self._model.context) for b in settings.viewers},
                {
                    (b, c): compiled(self._model.score_candidates)
                    for b in settings.viewers
                    for c in settings.candidates
                },
            )

        return self._become("the ranker is not compiled", compiling, inputs)

    def _become(
        self,
        otherwise: str,
        passes: Callable[[], tuple[dict[int, ContextPass], dict[tuple[int, int], ScorePass]]],
        inputs: Inputs,
    ) -> bool:
        """Use these `passes`, and call each once; where that fails, log why behind `otherwise`."""
        before, started = self._model, time.monotonic()
        try:
            self._model = unpacked(before)
            self._contexts, self._scores = passes()
            for shape in self._scores:
                self.predict(inputs(*shape))
        except Exception as error:  # compilers fail in many ways, and scores are the same without
            self._model, self._contexts, self._scores = before, {}, {}
            _log.warning("%s: %s", otherwise, str(error) or repr(error))
        else:
            took_s = time.monotonic() - started
            _log.info("the ranker is compiled for %d shapes: %.1f s", len(self._scores), took_s)
        return self.compiled

    @torch.inference_mode()
    def context(self, inputs: Tensors) -> ContextCache:
        """As `Ranker.context`."""
        inputs = {n: v for n, v in inputs.items() if not n.startswith("candidate_")}
        if not self.compiled:
            return self._model.context(inputs)
        parts = []
        for rows, size in self._blocks(len(inputs["user_hashes"]), self._contexts):
            block = {n: _padded(v[rows], 0, size) for n, v in inputs.items()}
            parts.append((self._contexts[size](block), rows.stop - rows.start))
        return joined([viewer for part, num in parts for viewer in part.viewers()[:num]])

    def extended(self, context: ContextCache, inputs: Tensors) -> ContextCache:
        """As `Ranker.extended`; never compiled, since contexts are of any length here."""
        return self._model.extended(context, inputs)

    @torch.inference_mode()
    def score_candidates(self, context: ContextCache, inputs: Tensors) -> Tensor:
        """As `Ranker.score_candidates`."""
        model, config = self._model, self._model.config
        inputs = {n: v for n, v in inputs.items() if n.startswith(model.reads_of_candidates)}
        there = inputs["candidate_post_hashes"][..., 0] != 0
        B, C = there.shape
        logits = torch.zeros(B, C, config.features.num_actions)
        for rows, b in self._blocks(B, [b for b, _ in self._scores] or [B]):
            theirs = _padded_context(context, rows, b, self._num_slots(context))
            num = int((torch.arange(1, C + 1) * there[rows]).max())  # behind them lies padding
            for columns, c in self._blocks(num, [c for _, c in self._scores] or [self._at_once]):
                # Not anchored, candidates stand one after another.
                start = theirs.start + (0 if config.anchored else columns.start)
                score = self._scores.get((b, c), model.score_candidates)
                found = score(replace(theirs, start=start), _some(inputs, rows, columns, (b, c)))
                here = logits[rows, columns]
                here.copy_(found[: len(here), : here.shape[1]])
        return logits

    @torch.inference_mode()
    def predict(self, inputs: Tensors, context: ContextCache | None = None) -> Tensor:
        """As `Ranker.predict`."""
        context = self.context(inputs) if context is None else context
        return self._model.predictions(self.score_candidates(context, inputs))

    def _num_slots(self, context: ContextCache) -> int:
        """How many a context is padded to."""
        if not self.compiled:
            return context.seen.shape[1]
        return self._model.tokens.num_leading + self._model.config.features.history_len

    def _blocks(self, num: int, sizes: Collection[int]) -> list[tuple[slice, int]]:
        """Which of `num` are computed together, and the size that they are padded to.

        Blocks of the largest of `sizes`, and what is left in the smallest that holds it; nothing
        is padded where passes are eager.
        """
        most, blocks = max(sizes), []
        for start in range(0, num, most):
            size = min(most, num - start)
            span = slice(start, start + size)
            blocks.append((span, min(s for s in sizes if s >= size) if self.compiled else size))
        return blocks


def _padded_context(
    context: ContextCache, rows: slice, num_viewers: int, num_slots: int
) -> ContextCache:
    """Some of the viewers, with zeros behind each and behind all."""

    def padded(x: Tensor, axis: int) -> Tensor:
        return _padded(_padded(x[rows], axis, num_slots), 0, num_viewers)

    return ContextCache(
        tuple((padded(key, 2), padded(value, 2)) for key, value in context.layers),
        padded(context.seen, 1),
        _padded(context.start[rows], 0, num_viewers),
    )


def _some(inputs: Tensors, rows: slice, columns: slice, shape: tuple[int, int]) -> Tensors:
    """Inputs of some viewers and candidates, with zeros behind each and behind all."""
    some = {
        n: _padded(v[rows, columns], 1, shape[1]) if n.startswith("candidate_") else v[rows]
        for n, v in inputs.items()
    }
    return {n: _padded(v, 0, shape[0]) for n, v in some.items()}


def _padded(x: Tensor, axis: int, size: int) -> Tensor:
    """The same with zeros behind, contiguous: compiled code takes nothing else."""
    if missing := size - x.shape[axis]:
        x = F.pad(x, [0, 0] * (x.dim() - axis - 1) + [0, missing])
    return x.contiguous()
