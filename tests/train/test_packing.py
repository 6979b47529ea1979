"""What packing promises: the numbers of padded sequences, and no more events than budgeted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.train.small_run import config, start, tables
from tests.train.test_models import SHAPE, SPEC, inputs  # noqa: F401  (a fixture)
from tests.train.test_properties import World, assert_same, properties, worlds
from train.learners.budget import fair_cap
from train.loop import batches
from train.models.packing import Packing
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import pack


def gradients(model: nn.Module, of: Tensor) -> Tensor:
    """All gradients of the mean square of `of`, end to end."""
    model.zero_grad()
    of.square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def in_packed_form(world: World) -> World:
    """The same world through the packed forward pass, its embeddings packed as well."""
    packed = pack(world.inputs)
    looked_up = {
        name: values if name == "user" else Packing.of(packed[f"{side}_valid"]).pack(values)
        for name, values in world.looked_up.items()
        for side in [name.partition("_")[0]]
    }
    return replace(world, inputs=packed, looked_up=looked_up)


@properties()
@given(worlds(), st.booleans())
def test_packed_scores_are_padded_scores(world, split):
    """Scores and gradients are those of padded tokens, with one mask or with candidates apart.

    Whatever the heads, norms, positions, and holes in histories and candidates.
    """
    model = world.model
    whole = model.config.model_copy(update={"split": split})
    results = []
    for packed, form in ((False, world), (True, in_packed_form(world))):
        model.config = whole.model_copy(update={"packed": packed})
        logits = model.logits(form.inputs, form.looked_up)[world.valid]
        results.append((logits.detach(), gradients(model, logits)))

    (expected, expected_grad), (ours, grad) = results
    assert_same(ours, expected, tolerance=1e-5)
    assert_same(grad, expected_grad, tolerance=1e-4)


@pytest.mark.parametrize("kind", ["ranker", "towers"])
def test_packed_models_equal_padded_ones(kind, inputs):  # noqa: F811
    """From ids on, with all features, a packed model gives the padded one's outputs, gradients."""
    settings = {"emb_size": 16, "transformer": SHAPE, "features": SPEC}
    results = []
    for packed in (False, True):
        torch.manual_seed(0)
        if kind == "ranker":
            model = Ranker(RankerConfig(**settings, packed=packed)).eval()
            output = model(inputs)
        else:
            model = TwoTower(RetrievalConfig(**settings, packed=packed)).eval()
            output = model.user(inputs)[:, :5]  # a unit vector's whole square never changes
        results.append((output.detach(), gradients(model, output)))

    (expected, expected_grad), (ours, grad) = results
    assert_same(ours, expected, tolerance=1e-5)
    assert_same(grad, expected_grad, tolerance=1e-5)


def test_padding_is_not_computed(inputs):  # noqa: F811
    """The feed-forward block of a packed model sees as many tokens as are valid, and no more."""
    settings = RankerConfig(emb_size=16, transformer=SHAPE, features=SPEC, packed=True)
    model = Ranker(settings).eval()
    seen: list[int] = []
    model.transformer.layers[0].ffn.register_forward_hook(
        lambda _module, args, _output: seen.append(len(args[0]))
    )
    model(inputs)

    assert seen == [6 + 3 + 0 + 3 * (1 + 1), 3 * 5]  # events, viewers, profiles; candidates


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_packing_there_and_back(valid):
    """Packed and unpacked again, what is valid stands where it stood and the rest is zero."""
    mask = torch.tensor(valid)
    x = torch.arange(1.0, mask.numel() * 2 + 1).view(*mask.shape, 2)
    packing = Packing.of(mask)

    assert torch.equal(packing.unpack(packing.pack(x)), x * mask[..., None])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 400))
def test_the_cap_is_the_largest_that_fits(lengths, budget):
    """Histories cut to the cap fit the budget; one event more each would not, or cuts nothing."""
    lengths = np.array(lengths)
    cap = fair_cap(lengths, budget)

    assert np.minimum(lengths, cap).sum() <= budget
    assert cap == lengths.max() or np.minimum(lengths, cap + 1).sum() > budget


@pytest.mark.parametrize("kind", ["ranker", "retrieval"])
def test_a_budget_keeps_the_newest_events(kind, prepared):
    """A batch holds at most its budget of events, of each history the newest ones."""
    whole = start(config(kind), prepared).learner
    learning = {"tokens_per_example": 3}
    short = start(config(kind, learning=learning), prepared).learner
    rows = tables(prepared, 16)[-1:]
    (before,), (after,) = (list(batches(learner, rows, (0,))) for learner in (whole, short))
    had, has = (b["history_post_hashes"][..., 0] for b in (before, after))
    cap = has.shape[1]

    assert (had != 0).sum() > 16 * 3 >= (has != 0).sum()
    for theirs, ours in zip(had, has, strict=True):
        kept = theirs[theirs != 0][-cap:]
        assert torch.equal(ours[: len(kept)], kept)
        assert not ours[len(kept) :].any()
