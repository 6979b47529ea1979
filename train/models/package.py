"""A ranker's passes compiled beforehand: machine code that a replica loads in milliseconds.

AOTInductor makes a library of each shape, so a replica needs no compiler. Weights are no part of
them but inputs: those of the ranker that a package is loaded for, held once. (As constants torch
2.13 would copy them for each shape, or, told not to, never let go of them.)

Axes: B viewers, C candidates.
"""

from __future__ import annotations

import copy
import hashlib
import platform
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from configs import Config, check
from train.models.context import ContextCache
from train.models.machine_code import Library
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

Inputs = Callable[[int, int], Tensors]  # of so many viewers with so many candidates
ContextPass = Callable[[Tensors], ContextCache]
ScorePass = Callable[[ContextCache, Tensors], Tensor]
Run = Callable[[list[Tensor]], list[Tensor]]

# Of log-odds, or of the largest among them: what rounding may change.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
_HOW = {
    "aot_inductor.package": True,
    "cpp.threads": 1,  # as a replica has; products of matrices take what it has
}


class PackageError(ValueError):
    """A package that cannot be used here; the text says why."""


class CompileSettings(Config):
    """Shapes that a ranker is compiled for."""

    # Viewers and candidates of one pass: fewer are padded to the next, more are several passes.
    viewers: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    candidates: tuple[PositiveInt, ...] = Field(default=(64, 256, 512), min_length=1)

    @field_validator("viewers", "candidates")
    @classmethod
    def _ascend(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError(f"{list(sizes)} do not ascend")
        return sizes


class PackageCard(Config):
    """What a package was made of, and for what."""

    shapes: CompileSettings
    ranker: RankerConfig
    torch: str  # version
    machine: str
    cpu: tuple[str, ...]  # names of all that its processor could do
    sha256: str  # of the file


@dataclass(frozen=True)
class Package:
    """The file, and its `PackageCard` as the bundle's card has it."""

    file: Path
    card: Any


def compile_package(
    ranker: Ranker, shapes: CompileSettings, inputs: Inputs, file: Path
) -> PackageCard:
    """Compile a ranker's passes into one file. Takes about ten seconds a shape.

    Args:
        ranker: `packed` or not: the code computes padding, as its shapes are fixed.
        shapes: one pass each, and one for the viewers' side of each number of viewers.
        inputs: makes inputs of both sides with the shapes and dtypes that requests have.
        file: a .pt2 file, which is written.

    Raises:
        RuntimeError: torch cannot compile it; it says why.
    """
    from torch._inductor.package import package_aoti
    from torch._inductor.utils import fresh_cache

    ranker = unpacked(ranker)
    with fresh_cache(), torch.no_grad():
        files = {}
        for b in shapes.viewers:
            viewers = _sides(ranker, inputs(b, 1))[0]
            files[_name(b)] = _compiled(_Context(ranker), viewers)
            kept = [x.contiguous() for x in _flat(ranker.context(viewers))]
            for c in shapes.candidates:
                theirs = _sides(ranker, inputs(b, c))[1]
                files[_name(b, c)] = _compiled(_Scores(ranker), kept, theirs)
        package_aoti(str(file), files)
    return PackageCard(
        shapes=shapes,
        ranker=ranker.config,
        torch=torch.__version__,
        machine=platform.machine(),
        cpu=_abilities(),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def load_package(
    package: Package, ranker: Ranker, shapes: CompileSettings | None, inputs: Inputs
) -> tuple[dict[int, ContextPass], dict[tuple[int, int], ScorePass]]:
    """A ranker's `context` and `score_candidates` for each of `shapes`, as machine code.

    Nothing is checked later: only contiguous tensors of these shapes may be given.

    Args:
        package: as `compile_package` made it.
        ranker: not packed; its weights must stay where they are.
        shapes: those that are wanted; None = all that it has.
        inputs: as of `compile_package`.

    Raises:
        PackageError: it was made of another ranker, for another machine or version of torch, lacks
            a shape, is damaged, or does not score as the ranker itself.
        ConfigError: its card is that of another version of this code.
    """
    card = check(package.card, PackageCard, f"{package.file.name}: card")
    shapes = shapes or card.shapes
    for what, made, here in (
        ("torch", card.torch, torch.__version__),
        ("machine", card.machine, platform.machine()),
        ("ranker", card.ranker, ranker.config),
    ):
        if made != here:
            raise PackageError(f"made for {what} {made}, and this is {here}")
    if lacking := sorted(set(card.cpu) - set(_abilities())):
        raise PackageError(f"made for a processor that has {', '.join(lacking)}")
    for axis in ("viewers", "candidates"):
        if missing := set(getattr(shapes, axis)) - set(getattr(card.shapes, axis)):
            raise PackageError(f"has no passes of {sorted(missing)} {axis}")
    if hashlib.sha256(package.file.read_bytes()).hexdigest() != card.sha256:
        raise PackageError(f"{package.file.name} is not the file that its card tells of")
    contexts: dict[int, ContextPass] = {}
    scores: dict[tuple[int, int], ScorePass] = {}
    for b in shapes.viewers:
        contexts[b] = _context(_loaded(package.file, _name(b), ranker))
        for c in shapes.candidates:
            scores[b, c] = _score(_loaded(package.file, _name(b, c), ranker))
            _check(ranker, contexts[b], scores[b, c], _random(inputs(b, c)))
    return contexts, scores


def unpacked(ranker: Ranker) -> Ranker:
    """The same ranker of the same weights, whose shapes depend on no input; it scores the same."""
    result = copy.copy(ranker)
    result.config = ranker.config.model_copy(update={"packed": False})
    return result


class _Context(nn.Module):
    """A ranker's `context`, of tensors alone: keys and values of each layer, seen, start."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, inputs: Tensors) -> list[Tensor]:
        return _flat(self.ranker.context(inputs))


class _Scores(_Context):
    """A ranker's `score_candidates`, of what `_Context` gives."""

    def forward(self, kept: list[Tensor], inputs: Tensors) -> Tensor:  # type: ignore[override]
        return self.ranker.score_candidates(_cache(kept), inputs)


def _flat(context: ContextCache) -> list[Tensor]:
    return [x for key_value in context.layers for x in key_value] + [context.seen, context.start]


def _cache(kept: list[Tensor]) -> ContextCache:
    *layers, seen, start = kept
    return ContextCache(tuple(zip(layers[::2], layers[1::2], strict=True)), seen, start)


class _OfWeights(nn.Module):
    """A step whose weights are given, in the order of its state dict."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self._step = (step,)  # hidden from torch.export, which would take its weights along
        self._names = list(step.state_dict())

    def forward(self, weights: list[Tensor], *args: Any) -> Any:
        named = dict(zip(self._names, weights, strict=True))
        return torch.func.functional_call(self._step[0], named, args)


def _compiled(step: nn.Module, *args: Any) -> Any:
    """The files of its library."""
    weights = list(step.state_dict().values())
    program = torch.export.export(_OfWeights(step), (weights, *args))
    assert program.example_inputs is not None
    positional, named = program.example_inputs
    return torch._inductor.aot_compile(program.module(), positional, named, options=dict(_HOW))


def _loaded(file: Path, name: str, ranker: Ranker) -> Run:
    try:
        library = Library(file, name)
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise PackageError(f"{file.name}: {name}: {error}") from error
    weights = list(ranker.state_dict().values())
    return lambda inputs: library(weights + inputs)


def _context(run: Run) -> ContextPass:
    return lambda inputs: _cache(run(_values(inputs)))


def _score(run: Run) -> ScorePass:
    return lambda context, inputs: run(_flat(context) + _values(inputs))[0]


def _check(ranker: Ranker, context: ContextPass, score: ScorePass, inputs: Tensors) -> None:
    """PackageError where the code gives other log-odds than the ranker."""
    viewers, candidates = _sides(ranker, inputs)
    with torch.inference_mode():
        kept = _cache([x.contiguous() for x in _flat(context(viewers))])
        ours = score(kept, candidates)
        theirs = ranker.score_candidates(ranker.context(viewers), candidates)
    far = float((ours - theirs).abs().max())
    most = _TOLERANCE[ranker.config.compute_dtype] * max(1.0, float(theirs.abs().max()))
    if not far <= most:  # NaN is none
        raise PackageError(f"its log-odds are {far:.2g} from the ranker's own")


def _random(inputs: Tensors) -> Tensors:
    """Others of the same shapes: ids and codes 0 or 1, which every table has, and any numbers."""
    generator = torch.Generator().manual_seed(0)
    values = {
        name: torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 2, x.shape, generator=generator)
        for name, x in inputs.items()
    }
    values["candidate_post_hashes"].fill_(1)  # of padding scores would mean nothing
    return values


def _sides(ranker: Ranker, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """What `context` reads, and what `score_candidates` reads, by name in one order."""
    some = sorted(inputs.items())
    return (
        {name: x for name, x in some if not name.startswith("candidate_")},
        {name: x for name, x in some if name.startswith(ranker.reads_of_candidates)},
    )


def _values(inputs: Tensors) -> list[Tensor]:
    return [inputs[name] for name in sorted(inputs)]


def _name(*shape: int) -> str:
    return "_".join(("context" if len(shape) == 1 else "scores", *map(str, shape)))


def _abilities() -> tuple[str, ...]:
    """What this processor can do, as `-march=native` may make use of it."""
    return tuple(sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True))
