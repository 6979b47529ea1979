"""A Ranker asked for int8 answers nearly as in float32, contexts kept, whatever the bundle."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.features import History
from serve import passes
from serve.deployments import Ranker, RankerSettings
from serve.models import Ranking
from serve.passes import CompileSettings
from serve.stores.profiles import ProfileStore
from tests.conftest import write_bundle
from train.bundle import Bundle, load
from train.models.quantised import Int8, num_weight_bytes

INT8 = RankerSettings(int8=True)


@pytest.fixture(scope="module")
def other(prepared, tmp_path_factory) -> Bundle:
    """A bundle of other weights."""
    return load(write_bundle(prepared, tmp_path_factory.mktemp("other"), seed=1))


def asked(bundle: Bundle) -> list[Ranking]:
    """Three viewers, one unknown, and posts of the bundle."""
    profiles, posts = ProfileStore(bundle.profiles), bundle.posts["post_id"].to_numpy()
    authors = bundle.posts["author_id"].to_numpy()
    return [
        Ranking(profiles.history(user) or History.empty(user), posts[:n], authors[:n], 0, 10**12)
        for user, n in ((1, 3), (2, 30), (10**9, 40))
    ]


def off(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> float:
    """Largest difference of predictions, relative where they pass 1 (seconds)."""
    return max(
        float((np.abs(a - b) / np.maximum(1, np.abs(b))).max())
        for a, b in zip(ours, theirs, strict=True)
    )


def test_answers_are_near_those_of_float32_for_any_bundle(bundle, other):
    """Rounding moves predictions by a fiftieth at most; another bundle's are its own."""
    exact = [Ranker(each).rank(asked(each)) for each in (bundle, other)]
    ours = [Ranker(each, INT8).rank(asked(each)) for each in (bundle, other)]
    assert all(0 < off(a, b) < 0.02 for a, b in zip(ours, exact, strict=True))
    assert off(ours[0], exact[1]) > 1


def test_kept_contexts_answer_alike(bundle):
    """The second time contexts are found, and what is said of each post is the same."""
    ranker = Ranker(bundle, INT8)
    first, again = ranker.rank(asked(bundle)), ranker.rank(asked(bundle))
    assert ranker.stats()["contexts_hits"] == len(first)
    assert off(again, first) < 1e-6
    without = Ranker(bundle, RankerSettings(int8=True, context_bytes=0)).rank(asked(bundle))
    assert 0 < off(without, first) < 0.01


def test_kept_contexts_are_int8(bundle):
    """They take less than half of the memory of float32's, of heads as narrow as here."""
    exact, ours = Ranker(bundle), Ranker(bundle, INT8)
    for ranker in (exact, ours):
        ranker.rank(asked(bundle))
    assert 0 < ours.stats()["contexts_bytes"] < exact.stats()["contexts_bytes"] / 2


def test_compiled_passes_are_of_the_int8_ranker(bundle, monkeypatch):
    """What is compiled is what was quantised: both settings together answer as int8 alone."""
    compiled = []
    monkeypatch.setattr(passes, "compiler_problem", lambda: None)
    monkeypatch.setattr(passes, "compiled", lambda step: compiled.append(step) or step)
    both = Ranker(bundle, RankerSettings(int8=True, compile=CompileSettings(candidates=(16, 64))))
    assert len(compiled) == 3
    assert all(any(isinstance(m, Int8) for m in step.__self__.modules()) for step in compiled)
    assert off(both.rank(asked(bundle)), Ranker(bundle, INT8).rank(asked(bundle))) < 1e-3
    small = num_weight_bytes(compiled[0].__self__)
    assert small < 0.4 * num_weight_bytes(bundle.load_ranker())
