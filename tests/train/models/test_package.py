"""Passes compiled beforehand score as the ranker's own, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError
from tests.train.models.packages import leaves_of, packaged, with_compiler, without_compiling
from tests.train.models.ranker_worlds import candidates, configs, ranker, viewers
from train.models.package import (
    CompileSettings,
    Package,
    PackageError,
    load_package,
    unpacked,
)
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

SHAPES = CompileSettings(viewers=(1, 2), candidates=(3, 5))
TINY = RankerConfig(emb_size=16, features={"history_len": 4}, transformer={"num_layers": 2})
PARTS = RankerConfig(  # what the demo's ranker lacks
    emb_size=16,
    transformer={"num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "qk_norm": True},
    features={"history_len": 4, "num_code_levels": 2, "content_size": 3},
    anchored=False,
    packed=True,
    wide=True,
    likeness={"kind": "nearest"},
)


def inputs_of(config: RankerConfig, seed: int) -> Callable[[int, int], Tensors]:
    """Random inputs, histories of any length."""

    def inputs(num_viewers: int, num_candidates: int) -> Tensors:
        lengths = torch.arange(num_viewers) % (config.features.history_len + 1)
        made = viewers(config.features, lengths, seed)
        return made | candidates(config.features, (num_viewers, num_candidates), seed)

    return inputs


def assert_same_scores(package: Package, model: Ranker, shapes: CompileSettings = SHAPES) -> None:
    """Passes of all shapes, of other inputs than those that it was made and tried with."""
    inputs, own = inputs_of(model.config, 7), unpacked(model)
    contexts, scores = load_package(package, own, None, inputs_of(model.config, 0))
    assert set(contexts) == set(shapes.viewers)
    assert set(scores) == {(b, c) for b in shapes.viewers for c in shapes.candidates}
    with torch.inference_mode():
        for (b, c), score in scores.items():
            given = inputs(b, c)
            theirs = {n: x for n, x in given.items() if n.startswith(own.reads_of_candidates)}
            mine = {n: x for n, x in given.items() if not n.startswith("candidate_")}
            kept = own.context(mine)
            contiguous = type(kept)(
                tuple((key.contiguous(), value.contiguous()) for key, value in kept.layers),
                kept.seen,
                kept.start,
            )
            for ours, whole in zip(leaves_of(contexts[b](mine)), leaves_of(kept), strict=True):
                torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-5)
            there = given["candidate_post_hashes"][..., 0] != 0
            torch.testing.assert_close(
                score(contiguous, theirs)[there], model(given)[there], atol=1e-4, rtol=1e-4
            )


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_passes_of_any_ranker(data):
    """Whatever a ranker reads and however it is shaped, its packaged passes give what it gives."""
    model = ranker(data.draw(configs()), 0)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        without_compiling(patch)
        package = packaged(model, SHAPES, inputs_of(model.config, 0), Path(folder))
        assert_same_scores(package, model)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"torch": "1.0"}, "made for torch 1.0, and this is "),
        ({"machine": "riscv64"}, "made for machine riscv64, and this is "),
        ({"cpu": ["avx512_f", "avx1024"]}, "made for a processor that has .*avx1024"),
        ({"sha256": "0"}, "ranker.pt2 is not the file that its card tells of"),
    ],
)
def test_foreign_packages_are_refused(monkeypatch, tmp_path, card, reason):
    """Another torch, machine or processor, or another file than the card's, is refused by name."""
    without_compiling(monkeypatch)
    model, inputs = ranker(TINY, 0), inputs_of(TINY, 0)
    package = packaged(model, SHAPES, inputs, tmp_path)
    with pytest.raises(PackageError, match=reason):
        load_package(Package(package.file, package.card | card), model, None, inputs)
    assert load_package(package, model, None, inputs)


def test_what_does_not_fit_the_ranker_is_refused(monkeypatch, tmp_path):
    """A ranker of another shape, wanted shapes that it lacks, a card that this code cannot read."""
    without_compiling(monkeypatch)
    model, inputs = ranker(TINY, 0), inputs_of(TINY, 0)
    package = packaged(model, SHAPES, inputs, tmp_path)
    longer = ranker(TINY.model_copy(update={"emb_size": 8}), 0)
    with pytest.raises(PackageError, match=r"made for ranker .*emb_size=16.*emb_size=8"):
        load_package(package, longer, None, inputs)
    with pytest.raises(PackageError, match=r"has no passes of \[4, 9\] candidates"):
        load_package(package, model, CompileSettings(candidates=(3, 4, 9)), inputs)
    with pytest.raises(ConfigError, match=r"ranker.pt2: card: shape: no such setting"):
        load_package(Package(package.file, package.card | {"shape": 1}), model, None, inputs)


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_other_scores_are_refused(monkeypatch, tmp_path, change):
    """Code that gives other log-odds than the ranker, as that of an older one may, is refused."""
    without_compiling(monkeypatch, change)
    model, inputs = ranker(TINY, 0), inputs_of(TINY, 0)
    package = packaged(model, SHAPES, inputs, tmp_path)
    with pytest.raises(PackageError, match=r"its log-odds are .* from the ranker's own"):
        load_package(package, model, None, inputs)


def test_bfloat16_may_round(tmp_path):
    """Code of a ranker in bfloat16 may differ by what that rounds, and by no more."""
    config = TINY.model_copy(update={"compute_dtype": "bfloat16"})
    model, inputs = ranker(config, 0), inputs_of(config, 0)
    largest = float(unpacked(model)(inputs(2, 5)).detach().abs().max())
    for share, fits in ((0.001, True), (0.3, False)):
        with pytest.MonkeyPatch.context() as patch:
            without_compiling(patch, share * max(1.0, largest))
            package = packaged(model, SHAPES, inputs, tmp_path)
            with nullcontext() if fits else pytest.raises(PackageError, match="its log-odds"):
                load_package(package, model, None, inputs)


@with_compiler
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("config", [TINY, PARTS])
def test_machine_code_scores_as_the_ranker(tmp_path, config, monkeypatch):
    """Machine code gives what eager passes give, of any weights, and without a compiler."""
    shapes, model = CompileSettings(viewers=(2,), candidates=(3,)), ranker(config, 0)
    package = packaged(model, shapes, inputs_of(config, 0), tmp_path)
    monkeypatch.setenv("PATH", "")
    for seed in (0, 1):  # weights are no part of it
        assert_same_scores(package, ranker(config, seed), shapes)
    package.file.write_bytes(b"no archive")
    card = package.card | {"sha256": hashlib.sha256(b"no archive").hexdigest()}
    with pytest.raises(PackageError, match=r"ranker.pt2: context_2: "):
        load_package(Package(package.file, card), unpacked(model), None, inputs_of(config, 0))


@with_compiler
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
def test_weights_are_held_once(tmp_path):
    """Code reads a ranker's own weights where they lie, and sees them change."""
    shapes = CompileSettings(candidates=(3,))
    package = packaged(ranker(TINY, 0), shapes, inputs_of(TINY, 0), tmp_path)
    model = ranker(TINY, 0)
    passes = load_package(package, model, shapes, inputs_of(TINY, 0))
    given = {n: x for n, x in inputs_of(TINY, 1)(1, 3).items() if not n.startswith("candidate_")}
    with torch.inference_mode():
        before = passes[0][1](given).layers[0][1]
        model.transformer.layers[0].attention.value.weight.mul_(2)
        torch.testing.assert_close(passes[0][1](given).layers[0][1], before * 2)
