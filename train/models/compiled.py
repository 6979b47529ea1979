"""A ranker compiled for the shapes that it meets; eager where nothing can compile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch._inductor import config as inductor

F = TypeVar("F", bound=Callable[..., Any])
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


def compiled(step: F) -> F:
    """The same as one graph for one shape: that of its first call, which takes many seconds.

    Nothing is checked later: only contiguous tensors of the same shapes and dtypes may be given.
    """
    whole = torch.compile(step, dynamic=False, fullgraph=True, **HOW)
    return cast("F", whole)
