"""A ranker compiled for the shapes that it meets; eager where nothing can compile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch._inductor import config as inductor

from train.models.ranker import Ranker

F = TypeVar("F", bound=Callable[..., Any])
_STEPS = ("forward", "beside", "key_value")  # of a decoder layer
# No Python between the kernels, and none that looks at the inputs. Weights stay inputs: `freezing`
# asked for here would do nothing, and asked for where it counts it is not faster at these sizes.
HOW: dict[str, Any] = {
    "isolate_recompiles": True,  # others of the same code, of another shape or bundle, stay
    "options": {
        "cpp_wrapper": True,
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
    },
}


def compiler_problem() -> str | None:
    """Why nothing can be compiled here; None = there is a C++ compiler."""
    names = [name for name in inductor.cpp.cxx if name]  # as $CXX says, or g++
    if any(map(shutil.which, names)):
        return None
    return f"no C++ compiler: {' and '.join(names)} not found"


def compile_layers(ranker: Ranker) -> str | None:
    """Let each layer be compiled when it first meets a shape; weights stay where they are.

    Layers are alike, so that one compilation serves all of them, however many there are. It takes
    many seconds a shape: ask for each once before requests come.

    Returns:
        Why nothing is compiled and `ranker` stays as it was; None = it is.
    """
    if problem := compiler_problem():
        return problem
    for layer in ranker.transformer.layers:
        for step in _STEPS:
            setattr(layer, step, torch.compile(getattr(layer, step), dynamic=False))
    return None


def compiled(step: F) -> F:
    """The same as one graph for one shape: that of its first call, which takes many seconds.

    Nothing is checked later: only contiguous tensors of the same shapes and dtypes may be given.
    """
    whole = torch.compile(step, dynamic=False, fullgraph=True, **HOW)
    return cast("F", whole)
