"""A kept context gives the scores of a full pass, for any ranker, and grows by an event."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.models.ranker_worlds import candidates, configs, ranker, viewers
from train.models.context import joined
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

SEEDS = st.integers(0, 2**31)
properties = partial(settings, max_examples=60, derandomize=True)  # rounding differs by example


def by_one_mask(model: Ranker, inputs: Tensors) -> Tensor:
    """Scores of one pass under one attention mask over all tokens: nothing is kept."""
    config = model.config
    model.config = config.model_copy(update={"split": False})
    scores = model(inputs)
    model.config = config
    return scores


def assert_same(ours: Tensor, expected: Tensor, inputs: Tensors, tolerance: float = 1e-5) -> None:
    """Equal where there are candidates, relative to the largest score."""
    there = inputs["candidate_post_hashes"][..., 0] != 0
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(ours[there], expected[there], atol=tolerance * scale, rtol=0)


@st.composite
def lengths_of(draw: st.DrawFn, most: int) -> Tensor:
    """Lengths of up to four histories, at most `most` each."""
    return torch.tensor(draw(st.lists(st.integers(0, most), min_size=1, max_size=4)))


@properties()
@given(configs(), SEEDS, st.integers(1, 6), st.data())
@torch.inference_mode()
def test_scores_of_a_kept_context_are_those_of_a_full_pass(config, seed, num_candidates, data):
    """Contexts made together, kept apart, joined in another order and padded give the same scores.

    Whatever the layers, heads, norms, features, padding, packing, and number of candidates.
    """
    model = ranker(config, seed)
    lengths = data.draw(lengths_of(config.features.history_len))
    inputs = viewers(config.features, lengths, seed)
    if data.draw(st.booleans()):
        inputs["user_hashes"][::2] = 0  # nobody
    inputs |= candidates(config.features, (len(lengths), num_candidates), seed)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    asked = {name: values[order] for name, values in inputs.items()}

    kept = model.context(inputs).viewers()
    num_slots = data.draw(st.sampled_from([None, model.tokens.num_leading + 9]))
    context = joined([kept[row] for row in order], num_slots)

    assert_same(model.score_candidates(context, asked), by_one_mask(model, asked), asked)
    torch.testing.assert_close(model.predict(asked, context), model.predict(asked))


@properties(max_examples=20)
@given(configs(compute_dtype="bfloat16"), SEEDS)
@torch.inference_mode()
def test_a_kept_context_of_few_bits_scores_as_the_full_pass(config, seed):
    """In bfloat16 nothing is rounded once more: scores differ by its rounding at most."""
    model = ranker(config, seed)
    inputs = viewers(config.features, torch.tensor([1, 2]), seed)
    inputs |= candidates(config.features, (2, 3), seed)
    S = inputs["history_post_hashes"].shape[1]
    context = joined(model.context(inputs).viewers(), model.tokens.num_leading + S)

    assert context.layers[0][0].dtype == torch.bfloat16
    assert_same(model.score_candidates(context, inputs), model(inputs), inputs, tolerance=2**-6)


@properties()
@given(configs(), SEEDS, st.data())
@torch.inference_mode()
def test_a_context_grows_by_an_event(config, seed, data):
    """One event after another added to a context gives the scores of the whole history.

    A viewer without a new event stays as they were.
    """
    model, S = ranker(config, seed), config.features.history_len
    before = data.draw(lengths_of(S))
    now = before + torch.tensor([data.draw(st.integers(0, S - int(n))) for n in before])
    whole = viewers(config.features, now, seed)
    if data.draw(st.booleans()):
        whole["user_hashes"][::2] = 0  # nobody
    past = torch.arange(S)[None, :] < before[:, None]
    old = whole | {"history_post_hashes": whole["history_post_hashes"] * past[..., None]}
    asked = candidates(config.features, (len(now), 3), seed)

    context = joined(model.context(old).viewers())
    rows = torch.arange(len(now))
    for step in range(int((now - before).max())):
        slot = (before + step).clamp(max=S - 1)
        event = {n: v[rows, slot][:, None] for n, v in whole.items() if n.startswith("history_")}
        event["history_post_hashes"] *= (before + step < now)[:, None, None]
        context = model.extended(context, event)

    expected = by_one_mask(model, whole | asked)
    assert_same(model.score_candidates(context, whole | asked), expected, asked)
    again = joined(context.viewers())  # kept without the slots that nobody used
    assert_same(model.score_candidates(again, whole | asked), expected, asked)


@torch.inference_mode()
def test_a_full_history_does_not_grow():
    """Where the oldest event would drop out, an extension is refused by name."""
    model = ranker(RankerConfig(features={"history_len": 3}), 0)
    inputs = viewers(model.config.features, torch.tensor([3, 2, 3]), 0)
    event = {n: v[:, :1] for n, v in inputs.items() if n.startswith("history_")}

    with pytest.raises(ValueError, match=r"viewers \[0, 2\] have a full history, 3 events"):
        model.extended(model.context(inputs), event)


@torch.inference_mode()
def test_what_is_kept_is_as_long_as_the_history():
    """A viewer's context holds keys and values of their own tokens, and no padding."""
    config = RankerConfig(transformer={"num_layers": 3, "num_kv_heads": 1, "key_size": 8})
    model = ranker(config, 0)
    kept = model.context(viewers(config.features, torch.tensor([5, 0]), 0)).viewers()

    for viewer, num_events in zip(kept, (5, 0), strict=True):
        num_tokens = model.tokens.num_leading + num_events
        assert viewer.key_value.shape == (3, 2, 1, num_tokens, 8)
        assert viewer.key_value.untyped_storage().nbytes() == 3 * 2 * num_tokens * 8 * 4
        assert viewer.num_bytes == 3 * 2 * num_tokens * 8 * 4 + num_tokens + 8


@properties()
@given(configs(), SEEDS, st.data(), st.sampled_from([torch.float32, torch.bfloat16]))
@torch.inference_mode()
def test_a_rounded_context_is_as_near_as_its_steps_and_stays_so(config, seed, data, dtype):
    """Keys and values are off by half a step of their head's largest; rounded again, by nothing."""
    lengths = data.draw(lengths_of(config.features.history_len))
    context = ranker(config, seed).context(viewers(config.features, lengths, seed))
    for viewer in context.viewers():
        viewer = replace(viewer, key_value=viewer.key_value.to(dtype))
        rounded, exact = viewer.rounded(), viewer.key_value.float()
        largest = exact.abs().amax(dim=-1, keepdim=True)
        step = 0.51 / 127 + torch.finfo(dtype).eps
        assert ((rounded.exact.float() - exact).abs() <= step * largest).all()
        assert rounded.exact.dtype == dtype
        again = joined([rounded]).viewers()[0].rounded()
        assert torch.equal(again.key_value, rounded.key_value)
        assert rounded.key_value.dtype == torch.int8
        assert rounded.rounded() is rounded
