"""A ranker's passes in blocks, eager or compiled for a few shapes, score as the ranker itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from pipelines.features import History
from serve import passes
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking
from serve.passes import Passes
from serve.stores.profiles import ProfileStore
from tests.train.models.packages import with_compiler
from tests.train.models.ranker_worlds import candidates, configs, ranker, viewers
from train.models import compiled
from train.models.package import CompileSettings
from train.models.ranker import RankerConfig
from train.models.tokens import Tensors

SHAPES = CompileSettings(viewers=(1, 3), candidates=(2, 5))
TINY = RankerConfig(emb_size=16, features={"history_len": 4}, transformer={"num_layers": 1})


def leaves(value: Any) -> list[Tensor]:
    """All tensors in it, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    elif is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    return [leaf for inner in value for leaf in leaves(inner)]


def strict(step: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for compilation: takes nothing but what the first call had, as compiled code does."""
    known: list[Any] = []

    def same(*args: Any) -> Any:
        tensors = [leaf for arg in args for leaf in leaves(arg)]
        met = [(leaf.shape, leaf.dtype) for leaf in tensors]
        known.append(met) if not known else None
        assert met == known[0]
        assert all(leaf.is_contiguous() for leaf in tensors)
        return step(*args)

    return same


def inputs_of(config: RankerConfig, lengths: list[int], num: int, seed: int) -> Tensors:
    """Random inputs of both sides."""
    inputs = viewers(config.features, torch.tensor(lengths), seed)
    return inputs | candidates(config.features, (len(lengths), num), seed)


def made(config: RankerConfig) -> Callable[[int, int], Tensors]:
    """As `Passes.compile` asks for them."""
    return lambda b, c: inputs_of(config, [1] * b, c, 0)


def assert_alike(ours: Passes, theirs: Any, inputs: Tensors) -> None:
    """Log-odds of all candidates that there are, by `forward` and by parts, and predictions."""
    there = inputs["candidate_post_hashes"][..., 0] != 0
    with torch.inference_mode():
        whole, context = theirs(inputs), ours.context(inputs)
        parts = ours.score_candidates(context, inputs)
        torch.testing.assert_close(parts[there], whole[there], atol=1e-4, rtol=1e-4)
        for predicted in (ours.predict(inputs), ours.predict(inputs, context)):
            expected = theirs.predictions(whole)
            torch.testing.assert_close(predicted[there], expected[there], atol=1e-4, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_score_as_one_pass(data):
    """Any ranker, any viewers and candidates, any size of a block: the scores are the same."""
    config = data.draw(configs())
    lengths = data.draw(st.lists(st.integers(0, config.features.history_len), min_size=1))
    num, at_once = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 10))
    model, inputs = ranker(config, 0), inputs_of(config, lengths, num, 1)
    assert_alike(Passes(model, at_once), model, inputs)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_passes_of_few_shapes_score_as_one_pass(data):
    """Compiled code meets the shapes that it was compiled for alone; the scores are the same."""
    config = data.draw(configs())
    lengths = data.draw(st.lists(st.integers(0, config.features.history_len), min_size=1))
    model, inputs = ranker(config, 0), inputs_of(config, lengths, data.draw(st.integers(1, 12)), 1)
    ours = Passes(ranker(config, 0), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "compiler_problem", lambda: None)
        patch.setattr(passes, "compiled", strict)
        ours.compile(SHAPES, made(config))
    assert ours.compiled
    assert not ours._model.config.packed  # its shapes would depend on the inputs
    assert_alike(ours, model, inputs)


def test_every_shape_is_met_before_requests(monkeypatch):
    """Nothing is left for a request to compile: each pass was called once it is ready."""
    met: list[bool] = []

    def noting(step: Callable[..., Any]) -> Callable[..., Any]:
        number = len(met)
        met.append(False)

        def noted(*args: Any) -> Any:
            met[number] = True
            return step(*args)

        return noted

    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(passes, "compiled", noting)
    assert Passes(ranker(TINY, 0), 1).compile(SHAPES, made(TINY))
    assert met == [True] * (len(SHAPES.viewers) * (1 + len(SHAPES.candidates)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_passes_are_one_graph_each(monkeypatch, caplog):
    """A ranker's passes can be traced whole, contexts going in and out; scores are the same."""
    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(compiled, "HOW", {"isolate_recompiles": True, "backend": "eager"})
    ours = Passes(ranker(TINY, 0), 1)
    with caplog.at_level(logging.INFO, "ray.serve"):
        ours.compile(CompileSettings(candidates=(3,)), made(TINY))
    assert ours.compiled, caplog.text
    assert "compiled for 1 shapes" in caplog.text
    assert_alike(ours, ranker(TINY, 0), inputs_of(TINY, [4, 0, 2], 7, 1))


@with_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of what it compiles with
def test_compiled_passes_score_as_eager_ones():
    """With machine code, for two rankers beside each other, the scores are the same."""
    for seed in (0, 1):
        ours = Passes(ranker(TINY, seed), 1)
        ours.compile(CompileSettings(viewers=(1, 2), candidates=(3,)), made(TINY))
        assert ours.compiled
        assert_alike(ours, ranker(TINY, seed), inputs_of(TINY, [4, 0, 2], 7, 1))


@pytest.mark.parametrize("packed", [False, True])
def test_without_a_compiler_passes_are_eager(monkeypatch, caplog, packed):
    """Where nothing can compile, or it fails, the log says why and all goes on as before."""
    config = TINY.model_copy(update={"packed": packed})
    ours = Passes(ranker(config, 0), 2)
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    ours.compile(SHAPES, made(config))
    assert "the ranker is not compiled: no C++ compiler: " in caplog.text

    def failing(step: Callable[..., Any]) -> Callable[..., Any]:
        if step == ours._model.context:
            return strict(step)

        def fails(*_: Any) -> Any:
            raise RuntimeError("no such header")

        return fails

    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(passes, "compiled", failing)
    ours.compile(SHAPES, made(config))
    assert "the ranker is not compiled: no such header" in caplog.text
    assert not ours.compiled
    assert ours._model.config.packed is packed
    assert_alike(ours, ranker(config, 0), inputs_of(config, [4, 0, 2], 7, 1))


def test_requests_meet_the_shapes_of_the_warm_up(monkeypatch, bundle):
    """What is compiled when a bundle is loaded is what requests need; answers are the same."""
    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(passes, "compiled", strict)
    profiles = ProfileStore(bundle.profiles)
    posts, authors = bundle.posts["post_id"].to_numpy(), bundle.posts["author_id"].to_numpy()
    asked = [
        Ranking(profiles.history(user) or History.empty(user), posts[:n], authors[:n], 0, 10**12)
        for user, n in ((1, 3), (2, 300), (3, 1), (10**9, 40))
    ]
    shapes = CompileSettings(viewers=(1, 2), candidates=(16, 64))
    eager = Ranker(bundle, RankerSettings(candidates_at_once=7)).rank(asked)
    for context_bytes in (0, 2**20):
        ours = Ranker(bundle, RankerSettings(context_bytes=context_bytes, compile=shapes))
        assert ours._model.compiled
        for _ in ("miss", "hit"):
            for mine, theirs in zip(ours.rank(asked), eager, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_shapes_ascend():
    """Shapes in any other order are an error, and so are none."""
    with pytest.raises(ValidationError, match=r"\[64, 64\] do not ascend"):
        CompileSettings(candidates=(64, 64))
    with pytest.raises(ValidationError, match="at least 1 item"):
        CompileSettings(viewers=())
