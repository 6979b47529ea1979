"""Compiled layers give what eager ones give; without a compiler they stay eager and say so."""

from __future__ import annotations

import pytest
import torch

from tests.train.models.packages import with_compiler
from tests.train.models.ranker_worlds import candidates, ranker, viewers
from train.models import compiled
from train.models.context import joined
from train.models.ranker import RankerConfig

CONFIG = RankerConfig(features={"history_len": 6}, transformer={"num_layers": 3})


def test_without_a_compiler_layers_stay_as_they_are(monkeypatch):
    """Where no C++ compiler is found, the reason is given and nothing is changed."""
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    model = ranker(CONFIG, 0)
    before = [dict(vars(layer)) for layer in model.transformer.layers]

    assert compiled.compile_layers(model) == "no C++ compiler: g++ not found"
    assert [dict(vars(layer)) for layer in model.transformer.layers] == before


@with_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of what it compiles with
@torch.inference_mode()
def test_compiled_layers_score_as_eager_ones():
    """Full passes, kept contexts and extended ones agree to rounding, all layers sharing code."""
    eager, fast = ranker(CONFIG, 0), ranker(CONFIG, 0)
    inputs = viewers(CONFIG.features, torch.tensor([4, 2]), 0)
    inputs |= candidates(CONFIG.features, (2, 5), 0)
    event = {n: v[:, 4:5] for n, v in inputs.items() if n.startswith("history_")}
    event["history_post_hashes"] = torch.ones_like(event["history_post_hashes"])
    assert compiled.compile_layers(fast) is None

    torch.testing.assert_close(fast(inputs), eager(inputs), atol=1e-4, rtol=1e-4)
    contexts = [m.extended(joined(m.context(inputs).viewers()), event) for m in (fast, eager)]
    ours, theirs = (
        m.score_candidates(context, inputs)
        for m, context in zip((fast, eager), contexts, strict=True)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
