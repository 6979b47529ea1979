"""Random rankers of any shape, and random viewers and candidates for them.

Axes: B viewers, S history slots, C candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from pipelines.features import CANDIDATE_CONTEXT, EVENT_CONTEXT, FeatureSpec
from train.models.layers import TransformerConfig
from train.models.likeness import LikenessConfig
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

VOCAB = 40
HEADS = [(1, 1), (4, 4), (4, 2), (4, 1), (6, 3)]


@st.composite
def configs(draw: st.DrawFn, **fixed: Any) -> RankerConfig:
    """Any shape and any options of a ranker, float32."""
    heads, kv_heads = draw(st.sampled_from(HEADS))
    rates = draw(st.booleans())
    spec = FeatureSpec(
        history_len=draw(st.integers(2, 7)),
        ids=draw(st.sampled_from([True, True, True, False])),
        num_user_hashes=draw(st.integers(1, 2)),
        user_vocab=VOCAB,
        post_vocab=VOCAB,
        author_vocab=VOCAB,
        attribute_vocab=VOCAB,
        context=draw(st.booleans()),
        rates=rates,
        user_features=draw(st.booleans()),
        num_code_levels=draw(st.integers(0, 2)),
        content_size=draw(st.integers(0, 3)),
    )
    kind = draw(st.sampled_from([None, "field", "nearest"])) if spec.content_size else None
    options = {
        "likeness": kind and LikenessConfig(kind=kind),
        "anchored": draw(st.booleans()),
        "packed": draw(st.booleans()),
        "wide": rates and draw(st.booleans()),
    }
    shape = TransformerConfig(
        num_layers=draw(st.integers(1, 3)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        key_size=draw(st.sampled_from([2, 8])),
        qk_norm=draw(st.booleans()),
    )
    return RankerConfig(emb_size=16, transformer=shape, features=spec, **(options | fixed))


def ranker(config: RankerConfig, seed: int) -> Ranker:
    """With random weights, none of them zero or one, so that all of them matter."""
    torch.manual_seed(seed)
    model = Ranker(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            elif "table" in name or "wide" in name:  # begin small, or at zero
                weight.normal_(std=0.5)
        model.shift.normal_()
    return model


def viewers(spec: FeatureSpec, lengths: Tensor, seed: int) -> Tensors:
    """Random inputs of histories with so many events, int64 [B]; behind them lies noise."""
    g = torch.Generator().manual_seed(seed)
    B, S = len(lengths), spec.history_len

    def ids(*shape: int, most: int = VOCAB) -> Tensor:
        return torch.randint(1, most, shape, generator=g)

    past = torch.arange(S) < lengths[:, None]
    inputs = {
        "user_hashes": ids(B, spec.num_user_hashes),
        "history_post_hashes": ids(B, S, 2) * past[..., None],
        "history_author_hashes": ids(B, S, 2),
        "history_actions": (torch.rand(B, S, spec.num_actions, generator=g) > 0.7).float(),
        "history_product_surface": ids(B, S, most=16),
    }
    if spec.context:
        inputs["history_context"] = ids(B, S, len(EVENT_CONTEXT), most=sum(EVENT_CONTEXT.values()))
    if spec.user_features:
        inputs["user_attributes"] = ids(B, 4)
    return inputs | _content("history", spec, (B, S), g)


def candidates(spec: FeatureSpec, shape: tuple[int, int], seed: int) -> Tensors:
    """Random inputs of [B, C] posts, some of them padding."""
    g = torch.Generator().manual_seed(seed)

    def ids(*inner: int, most: int = VOCAB) -> Tensor:
        return torch.randint(1, most, (*shape, *inner), generator=g)

    there = torch.rand(*shape, 1, generator=g) > 0.2
    inputs = {
        "candidate_post_hashes": ids(2) * there,
        "candidate_author_hashes": ids(2),
        "candidate_product_surface": ids(most=16),
    }
    if spec.context:
        most = sum(CANDIDATE_CONTEXT.values())
        inputs["candidate_context"] = ids(len(CANDIDATE_CONTEXT), most=most)
    if spec.rates:
        inputs["candidate_signals"] = torch.randn(*shape, spec.num_signals, generator=g)
    return inputs | _content("candidate", spec, shape, g)


def _content(side: str, spec: FeatureSpec, shape: tuple[int, int], g: torch.Generator) -> Tensors:
    inputs = {}
    if spec.num_code_levels:
        inputs[f"{side}_codes"] = torch.randint(0, 256, (*shape, spec.num_code_levels), generator=g)
    if spec.content_size:
        inputs[f"{side}_content"] = torch.randn(*shape, spec.content_size, generator=g)
    return inputs
