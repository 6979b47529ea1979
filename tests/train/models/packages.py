"""Stands for AOTInductor: libraries that are eager, and take the shapes they were made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from train.models import package
from train.models.compiled import compiler_problem
from train.models.package import CompileSettings, Package, compile_package
from train.models.ranker import Ranker

Test = TypeVar("Test", bound=Callable[..., Any])


def without_compiling(patch: pytest.MonkeyPatch, change: float = 0.0) -> None:
    """Make and load packages without a compiler; `change` is added to log-odds."""
    libraries: dict[str, Any] = {}

    def compiled(step: nn.Module, *args: Any) -> Any:
        return type(step), *tree_flatten(args)

    def packaged(file: str, files: dict[str, Any]) -> None:
        libraries.update(files)
        Path(file).write_bytes(b"machine code")

    def loaded(file: Path, name: str, ranker: Ranker) -> Callable[[list[Tensor]], list[Tensor]]:
        kind, examples, structure = libraries[name]

        def run(values: list[Tensor]) -> list[Tensor]:
            for value, example in zip(values, examples, strict=True):
                assert (value.shape, value.dtype) == (example.shape, example.dtype)
                assert value.is_contiguous()
            found = tree_flatten(kind(ranker)(*tree_unflatten(values, structure)))[0]
            return [x + change if x.is_floating_point() else x for x in found]

        return run

    patch.setattr(package, "_compiled", compiled)
    patch.setattr(package, "_loaded", loaded)
    patch.setattr("torch._inductor.package.package_aoti", packaged)


def packaged(ranker: Ranker, shapes: CompileSettings, inputs: Any, folder: Path) -> Package:
    """A package as a bundle has it, its card read from JSON."""
    file = folder / "ranker.pt2"
    card = compile_package(ranker, shapes, inputs, file)
    return Package(file, card.model_dump(mode="json"))


def leaves_of(context: Any) -> list[Tensor]:
    """Tensors of a context that are numbers."""
    return [x for key_value in context.layers for x in key_value] + [
        context.start.to(torch.float32)
    ]


def with_compiler(test: Test) -> Test:
    """Marks a test that compiles, which takes up to a minute and a C++ compiler."""
    lacking = compiler_problem()
    return cast(
        "Test", pytest.mark.compiler(pytest.mark.skipif(bool(lacking), reason=str(lacking))(test))
    )
