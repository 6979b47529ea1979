"""Layers of a ranker compiled for the shapes that they meet; eager where nothing can compile."""

from __future__ import annotations

import shutil

import torch
from torch._inductor import config as inductor

from train.models.ranker import Ranker

_STEPS = ("forward", "beside", "key_value")  # of a decoder layer


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
