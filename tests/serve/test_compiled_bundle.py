"""A bundle whose ranker is compiled ranks as without, and where its code does not fit, too."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError, check
from pipelines.features import History
from serve import passes
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking, version
from serve.stores.profiles import ProfileStore
from tests.serve.test_passes import strict
from tests.train.models.packages import without_compiling
from train.bundle import PACKAGE, Bundle, BundleError, compiled, load
from train.bundle.compiled import main, with_compiled
from train.models.package import CompileSettings

CODE = RankerSettings(machine_code=True)
SHAPES = CompileSettings(viewers=(1, 2), candidates=(16, 64))


@pytest.fixture
def packaged(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with a package, whose code stands for machine code."""
    without_compiling(monkeypatch)
    monkeypatch.setattr(compiled, "compiler_problem", lambda: None)
    with_compiled(bundle_path, tmp_path / "compiled", SHAPES)
    return load(tmp_path / "compiled")


def asked(bundle: Bundle) -> list[Ranking]:
    """Viewers with and without a history, and fewer and more posts than passes have."""
    profiles = ProfileStore(bundle.profiles)
    posts, authors = bundle.posts["post_id"].to_numpy(), bundle.posts["author_id"].to_numpy()
    return [
        Ranking(profiles.history(user) or History.empty(user), posts[:n], authors[:n], 0, 10**12)
        for user, n in ((1, 3), (2, 300), (3, 1), (10**9, 40))
    ]


def assert_ranks_as(ours: Ranker, bundle: Bundle) -> None:
    """As a ranker of `bundle` where nothing is compiled."""
    rankings, plain = asked(bundle), dataclasses.replace(bundle, card={})
    for mine, theirs in zip(ours.rank(rankings), Ranker(plain).rank(rankings), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_machine_code_is_run_only_where_that_is_asked_for(packaged, bundle):
    """Requests meet the shapes of the package; the bundle before stays, and is another version."""
    assert not (bundle.folder / PACKAGE).exists()
    assert version(packaged) != version(bundle)
    assert bundle.package is None
    assert not Ranker(packaged)._model.compiled
    ours = Ranker(packaged, CODE)
    assert sorted(ours._model._scores) == [(1, 16), (1, 64), (2, 16), (2, 64)]
    assert_ranks_as(ours, bundle)
    few = Ranker(packaged, CODE.model_copy(update={"compile": CompileSettings(candidates=(64,))}))
    assert sorted(few._model._scores) == [(1, 64)]
    assert_ranks_as(few, bundle)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"torch": "1.0"}, "made for torch 1.0, and this is"),
        ({"cpu": ["avx1024"]}, "made for a processor that has avx1024"),
        ({"shape": 1}, "ranker.pt2: card: shape"),
        ({"sha256": "0"}, "ranker.pt2 is not the file"),
    ],
)
def test_what_does_not_fit_is_compiled_here_or_eager(packaged, monkeypatch, caplog, card, reason):
    """The log says why; passes are compiled where that is asked for, and eager otherwise."""
    card = packaged.card | {"compiled": packaged.card["compiled"] | card}
    foreign = dataclasses.replace(packaged, card=card)
    with caplog.at_level(logging.INFO, "ray.serve"):
        ours = Ranker(foreign, CODE)
    assert f"the ranker is not taken as its bundle has it compiled: {reason}" in caplog.text
    assert not ours._model.compiled
    assert_ranks_as(ours, packaged)

    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(passes, "compiled", strict)
    eight = CompileSettings(candidates=(8,))
    ours = Ranker(foreign, CODE.model_copy(update={"compile": eight}))
    assert sorted(ours._model._scores) == [(1, 8)]
    assert_ranks_as(ours, packaged)


def test_a_lost_package_is_no_end(packaged, caplog):
    """Where the file is gone passes are eager, and the log says so."""
    (packaged.folder / PACKAGE).unlink()
    assert not Ranker(packaged, CODE)._model.compiled
    assert "No such file" in caplog.text


def test_settings_that_would_do_nothing_are_told(bundle, caplog):
    """Those that exclude one another are refused, and what a bundle lacks is in the log."""
    with pytest.raises(ConfigError, match="machine_code with int8"):
        check({"int8": True, "machine_code": True}, RankerSettings, "ranking")
    with pytest.raises(ConfigError, match="score_bytes: 9 with context_bytes: 0"):
        check({"score_bytes": 9, "context_bytes": 0}, RankerSettings, "ranking")
    assert not Ranker(bundle, CODE)._model.compiled
    assert "the bundle brings no machine code" in caplog.text


def test_what_cannot_be_compiled(bundle_path, tmp_path, monkeypatch, capsys):
    """Without a compiler, over another bundle, or for shapes in disorder: the command says why."""

    def run(*args: str) -> str:
        command = ["compiled", str(bundle_path), "--out", str(tmp_path / "out"), *args]
        monkeypatch.setattr(sys, "argv", command)
        assert main() == 2
        return capsys.readouterr().err

    monkeypatch.setattr(compiled, "compiler_problem", lambda: "no C++ compiler: g++ not found")
    assert "cannot be compiled: no C++ compiler: g++ not found" in run()
    assert "[64, 16] do not ascend" in run("--candidates", "64", "16")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match="exists already"):
        with_compiled(bundle_path, bundle_path, SHAPES)
