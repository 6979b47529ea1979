"""What holds of the models whatever their shape, weights and inputs.

Axes: B viewers, S history slots, C candidates, T tokens, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from pipelines.features import FeatureSpec
from tests.train.phoenix_oracle import Shape, may_look
from tests.train.published_files import batch
from train.models.layers import TransformerConfig, ffn_width
from train.models.layout import attention_mask, make_layout
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import Tensors
from train.published_cases import IDS_ALONE

SHAPES = st.builds(
    Shape,
    B=st.integers(1, 3),
    emb=st.sampled_from([8, 24]),
    hist=st.integers(1, 9),
    cand=st.integers(2, 6),
    hashes=st.tuples(*[st.integers(1, 3)] * 3),
    key_size=st.sampled_from([2, 8]),
    widening=st.sampled_from([1, 2, 2.5]),
    layers=st.integers(1, 3),
    multiplier=st.sampled_from([0.125, 1.0]),
)
HEADS = st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1), (6, 3)])
properties = partial(settings, max_examples=25, derandomize=True)  # rounding differs by example


@dataclass(frozen=True, repr=False)
class World:
    """A random model and random inputs to it; some viewers, posts and slots are padding."""

    model: Ranker
    inputs: Tensors
    looked_up: Tensors
    valid: Tensor  # bool [B, C]

    def logits(self, split: bool = True, **change: object) -> Tensor:
        """Scores [B, C, A] after `change` to each candidate array, on one of the two paths."""
        self.model.config = self.model.config.model_copy(update={"split": split})
        changed = change.get("candidates", lambda values: values)
        arrays = [
            {k: changed(v) if k.startswith("candidate") else v for k, v in group.items()}
            for group in (self.inputs, self.looked_up)
        ]
        return self.model.logits(*arrays)


@st.composite
def worlds(draw: st.DrawFn, anchored: bool | None = None) -> World:
    """Any shape, weights and inputs; `anchored` None = both."""
    shape, (heads, kv_heads), seed = draw(SHAPES), draw(HEADS), draw(st.integers(0, 2**31))
    config = model_config(shape, heads, kv_heads, qk_norm=draw(st.booleans()))
    mode = draw(st.booleans()) if anchored is None else anchored
    torch.manual_seed(seed)
    model = Ranker(RankerConfig(**config, anchored=mode)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    rng = np.random.default_rng(seed)
    arrays = batch(shape, rng, invalid_users=draw(st.booleans()))
    gone = rng.random((shape.B, shape.cand)) < 0.3
    gone[:, 0] = False
    arrays["batch/candidate_post_hashes"][gone] = 0
    inputs, looked_up = model_inputs(arrays)
    return World(model, inputs, looked_up, torch.from_numpy(~gone))


def model_config(shape: Shape, heads: int, kv_heads: int, qk_norm: bool = False) -> dict:
    """Settings that both models share."""
    users, posts, authors = shape.hashes
    return {
        "emb_size": shape.emb,
        "transformer": TransformerConfig(
            num_layers=shape.layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            key_size=shape.key_size,
            widening_factor=shape.widening,
            attn_multiplier=shape.multiplier,
            qk_norm=qk_norm,
        ),
        "features": FeatureSpec(
            **IDS_ALONE,
            num_user_hashes=users,
            num_post_hashes=posts,
            num_author_hashes=authors,
            user_vocab=2,
            post_vocab=2,
            author_vocab=2,
        ),
    }


def model_inputs(arrays: dict[str, np.ndarray]) -> tuple[Tensors, Tensors]:
    """Inputs and looked-up embeddings under the models' names."""
    groups: dict[str, Tensors] = {"batch": {}, "emb": {}}
    for key, a in arrays.items():
        group, name = key.split("/")
        tensor = torch.from_numpy(a.astype(np.float32 if a.dtype.kind == "f" else np.int64))
        groups[group][name.removesuffix("_embeddings")] = tensor
    return groups["batch"], groups["emb"]


def assert_same(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to within `tolerance`, relative to the largest score."""
    scale = max(1.0, float(expected.detach().abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(ours, expected, atol=tolerance * scale, rtol=0)


def test_masks_follow_the_formula():
    """Token i looks at j iff j <= i, and of two candidates only at itself: all sizes to 16."""
    for T in range(1, 17):
        for start in (None, *range(1, T + 1)):
            expected = [[may_look(i, j, start) for j in range(T)] for i in range(T)]
            assert attention_mask(T, start).tolist() == expected


@pytest.mark.parametrize(
    ("start", "rows"),
    [(3, "100000 110000 111000 111100 111010 111001"), (1, "1000 1100 1010 1001")],
)
def test_masks_are_the_published_ones(start, rows):
    """The two patterns that the published tests spell out."""
    expected = [[digit == "1" for digit in row] for row in rows.split()]

    assert attention_mask(len(expected), start).tolist() == expected


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 9))
def test_padding_is_never_looked_at(valid, start):
    """Of a padded sequence a token may look at what the mask allows and is no padding."""
    start = min(start, len(valid))
    layout = make_layout(torch.tensor([valid]), start)

    assert torch.equal(layout.allowed[0], attention_mask(len(valid), start) & torch.tensor(valid))


@pytest.mark.parametrize(
    ("emb_size", "widening", "width"),
    [(128, 2, 176), (128, 4, 344), (64, 2, 88), (96, 4, 256), (512, 2, 688), (1024, 2, 1368)],
)
def test_widths_are_the_published_ones(emb_size, widening, width):
    """The feed-forward widths that the release's shapes have."""
    assert ffn_width(emb_size, widening) == width


@given(st.integers(1, 4096), st.floats(0.5, 8))
def test_widths_are_two_thirds_rounded_up_to_eights(emb_size, widening):
    """A width is the next multiple of 8 from 2/3 of the widened size."""
    width, wanted = ffn_width(emb_size, widening), int(widening * emb_size) * 2 // 3

    assert width % 8 == 0
    assert wanted <= width < wanted + 8


@given(st.integers(1, 12), st.integers(1, 12))
def test_query_heads_are_a_multiple_of_key_heads(heads, kv_heads):
    """A shape is refused exactly if key/value heads do not divide query heads."""
    if heads % kv_heads == 0:
        TransformerConfig(num_heads=heads, num_kv_heads=kv_heads)
    else:
        with pytest.raises(ValidationError, match="not a multiple"):
            TransformerConfig(num_heads=heads, num_kv_heads=kv_heads)


@properties()
@given(worlds(), st.booleans(), st.data())
def test_scores_ignore_other_candidates(world, split, data):
    """A score is the same to the bit when all others are replaced or become padding.

    When those after it are removed, matrices of another shape are summed in another order, which
    may move it by float32's rounding.
    """
    kept = data.draw(st.integers(0, world.valid.shape[1] - 1))

    def replaced(values: Tensor) -> Tensor:
        other = values.roll(1, dims=1).roll(1, dims=-1)
        other[:, kept] = values[:, kept]
        return other

    def padded(values: Tensor) -> Tensor:
        other = torch.zeros_like(values)
        other[:, kept] = values[:, kept]
        return other

    with torch.inference_mode():
        there = world.valid[:, kept]
        expected = world.logits(split)[:, kept][there]
        for change in (replaced, padded):
            assert torch.equal(world.logits(split, candidates=change)[:, kept][there], expected)
        fewer = world.logits(split, candidates=lambda values: values[:, : kept + 1])
        assert_same(fewer[:, kept][there], expected, tolerance=1e-5)


@properties()
@given(worlds(), st.booleans(), st.integers(1, 5))
def test_padding_candidates_change_no_score(world, split, num_more):
    """More padding on the right of the candidates moves no score by more than rounding does."""

    def more(values: Tensor) -> Tensor:
        return torch.cat(
            [values, torch.zeros_like(values[:, :1]).expand(-1, num_more, *values.shape[2:])], 1
        )

    with torch.inference_mode():
        ours = world.logits(split, candidates=more)[:, :-num_more]
        assert_same(ours[world.valid], world.logits(split)[world.valid], tolerance=1e-5)


@properties()
@given(worlds(anchored=True), st.booleans(), st.randoms(use_true_random=False))
def test_anchored_scores_ignore_the_order(world, split, random):
    """With candidates at one position, any order of them gives each its own score again."""
    order = list(range(world.valid.shape[1]))
    random.shuffle(order)

    with torch.inference_mode():
        shuffled = world.logits(split, candidates=lambda values: values[:, order])
        valid = world.valid[:, order]
        assert_same(shuffled[valid], world.logits(split)[:, order][valid], tolerance=1e-5)


@properties()
@given(worlds())
def test_the_fast_path_equals_one_mask_over_all(world):
    """Candidates handled apart get the scores and gradients of one mask over all tokens."""
    gradients = []
    scores = []
    for split in (True, False):
        world.model.zero_grad()
        logits = world.logits(split)[world.valid]
        logits.square().mean().backward()
        scores.append(logits)
        gradients.append(
            torch.cat([p.grad.flatten() for p in world.model.parameters() if p.grad is not None])
        )

    assert_same(scores[0], scores[1], tolerance=1e-5)
    assert_same(gradients[0], gradients[1], tolerance=1e-4)


@properties()
@given(worlds(), st.booleans(), st.sampled_from(["zeros", "padding"]))
def test_nothing_gives_finite_numbers(world, split, kind):
    """Embeddings of zeros, and a batch of padding only, give finite scores and gradients."""
    inputs = dict(world.inputs)
    if kind == "padding":
        inputs = {name: torch.zeros_like(values) for name, values in inputs.items()}
    nothing = {name: torch.zeros_like(v) for name, v in world.looked_up.items()}

    logits = World(world.model, inputs, nothing, world.valid).logits(split)
    logits.square().sum().backward()

    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in world.model.parameters() if p.grad is not None)


@properties()
@given(SHAPES, HEADS, st.integers(0, 2**31), st.booleans(), st.sampled_from([0.0, 1.0, 100.0]))
def test_towers_give_unit_vectors(shape, heads, seed, invalid_users, size):
    """Viewers and posts have length 1 to 1e-5, or 0 if nothing is known; gradients stay finite."""
    torch.manual_seed(seed)
    model = TwoTower(RetrievalConfig(**model_config(shape, *heads))).eval()
    inputs, looked_up = model_inputs(batch(shape, np.random.default_rng(seed), invalid_users))
    looked_up = {name: values * size for name, values in looked_up.items()}

    user, norm = model.user_from(inputs, looked_up)
    post = model.post_from(looked_up["candidate_post"], looked_up["candidate_author"])
    (user.sum() + post.sum()).backward()

    for vectors, known in ((user, norm > 0), (post, torch.tensor(size > 0))):
        lengths = vectors.norm(dim=-1)
        torch.testing.assert_close(lengths, known.float().expand_as(lengths), atol=1e-5, rtol=0)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
