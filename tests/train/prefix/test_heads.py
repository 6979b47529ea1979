"""Heads have the published shape, and vectors that may be cut where that is promised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.models.prefix import PrefixConfig, SeparatedHead, dropped, make_head, truncate
from train.models.recursion import Recursion, apply_once


def test_the_shared_head_has_the_published_size():
    """384 wide, 10 and 150 classes: 2,066,592 parameters, 295,680 of them never used."""
    head = make_head(PrefixConfig(kind="shared", num_classes=(10, 150)))

    assert sum(p.numel() for p in head.parameters()) == 2_066_592
    assert sum(p.numel() for p in head.query_key.parameters()) == 295_680


def test_the_shared_block_is_the_transformer_layer():
    """Without dropout the block is attention over one token and an FFN, as torch has them."""
    torch.manual_seed(0)
    config = PrefixConfig(kind="shared", input_size=16, block_sizes=(4, 4), num_heads=2)
    head = make_head(config).eval()
    attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight[:32] = head.query_key.weight
        attention.in_proj_weight[32:] = head.value.weight
        attention.out_proj.load_state_dict(head.output.state_dict())
        features = torch.randn(5, 16)
        x = first = head.input(features)
        blocks = []
        for i in range(2):
            token = head.attention_norm(x)[:, None]
            x = x + attention(token, token, token)[0][:, 0]
            x = x + head.down(torch.nn.functional.gelu(head.up(head.ffn_norm(x))))
            x = x + 0.1 / (1 + 0.3 * i) * first
            blocks.append(head.blocks_out[i](x))
        expected = torch.cat(blocks, dim=1)

    torch.testing.assert_close(head.blocks(features), expected)
    whole = torch.nn.functional.normalize(head.norm(expected), dim=-1)
    torch.testing.assert_close(head.embed(features), whole)
    torch.testing.assert_close(
        head.prefix(features, 1), torch.nn.functional.normalize(expected[:, :4], dim=-1)
    )


def test_the_recursions_own_gradients_are_autograds():
    """With dropout's masks, values and all gradients equal those of plain operations."""
    torch.manual_seed(0)
    shapes = [(8,), (8,), (8, 8), (8,), (8, 8), (8,), (8,), (8,), (32, 8), (32,), (8, 32), (8,)]
    weights = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    first = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    heads, inner = torch.rand(3, 5, 4).double(), torch.rand(3, 5, 32).double()
    shares = (0.1, 0.2, 0.3)
    made = Recursion.apply(first, shares, heads, inner, *weights)
    x, plain = first, []
    for j, share in enumerate(shares):
        x = apply_once(x, weights, heads[j], inner[j]) + share * first
        plain.append(x)

    torch.testing.assert_close(made, torch.stack(plain))
    pull = torch.randn_like(made)
    ours = torch.autograd.grad((made * pull).sum(), [first, *weights])
    theirs = torch.autograd.grad((torch.stack(plain) * pull).sum(), [first, *weights])
    torch.testing.assert_close(ours, theirs)


def test_dropout_drops_its_share_and_keeps_the_mean():
    """A tenth of the entries is 0, the others are 10/9."""
    torch.manual_seed(0)
    x = dropped(torch.ones(300, 1_001), 0.1)

    assert (x == 0).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert x.unique().tolist() == pytest.approx([0, 10 / 9])


sizes = st.lists(st.integers(1, 5), min_size=2, max_size=5)


@settings(max_examples=25)
@given(sizes, st.integers(0, 100), st.data())
def test_cutting_stored_vectors_is_exact(block_sizes, seed, data):
    """A separated head's prefix equals that of its stored whole vector, bit for bit."""
    num_parts = data.draw(st.integers(2, len(block_sizes)))
    torch.manual_seed(seed)
    config = PrefixConfig(
        input_size=6,
        hidden_size=8,
        block_sizes=tuple(block_sizes),
        blocks_per_part=(1,) * (num_parts - 1) + (len(block_sizes) - num_parts + 1,),
        part_weights=tuple(range(1, num_parts + 1)),
    )
    head = make_head(config).eval()
    features = torch.randn(4, 6)
    stored = head.embed(features).detach()

    for num_blocks in range(1, len(block_sizes) + 1):
        cut = truncate(stored, config.block_sizes, num_blocks)
        assert torch.equal(cut, head.prefix(features, num_blocks))
        torch.testing.assert_close(cut.norm(dim=1), torch.ones(4))


def test_cutting_the_shared_heads_vectors_is_not():
    """V5's whole vectors are layer-normalised and its prefixes are not: a cut is another vector."""
    torch.manual_seed(0)
    head = make_head(PrefixConfig(kind="shared", input_size=16, block_sizes=(4, 4))).eval()
    features = torch.randn(3, 16)

    cut = truncate(head.embed(features), (4, 4), 1)
    assert not torch.allclose(cut, head.prefix(features, 1), atol=1e-3)


def test_whole_cosine_is_the_weighted_mean_of_the_parts():
    """Weights 1 and 3: similarity of whole vectors is a quarter coarse, three quarters fine."""
    torch.manual_seed(0)
    config = PrefixConfig(
        input_size=6, hidden_size=8, block_sizes=(3, 5), blocks_per_part=(1, 1), part_weights=(1, 3)
    )
    head = make_head(config).eval()
    features = torch.randn(4, 6)
    coarse, fine = head.split(features)
    whole = head.embed(features)

    torch.testing.assert_close(whole @ whole.T, coarse @ coarse.T / 4 + fine @ fine.T * 3 / 4)


def test_views_start_as_the_encoders_own_similarities():
    """As wide as the encoder, the fine part's linear view keeps every cosine."""
    torch.manual_seed(0)
    config = PrefixConfig(input_size=6, hidden_size=8, block_sizes=(2, 6), blocks_per_part=(1, 1))
    head = make_head(config)
    assert isinstance(head, SeparatedHead)
    features = torch.randn(20, 6)
    head.start_from(features)
    unit = torch.nn.functional.normalize(features, dim=-1)
    seen = head.views[0](unit)

    torch.testing.assert_close(seen @ seen.T, unit @ unit.T)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "shared", "input_size": 10},
        {"blocks_per_part": (1, 2)},
        {"part_weights": (1.0,)},
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong):
    """Heads that do not divide the width, and parts that are not the blocks, stop here."""
    with pytest.raises(ValueError, match=r"num_heads|blocks_per_part"):
        PrefixConfig.model_validate(wrong)


@pytest.mark.parametrize("num_blocks", [0, 3])
def test_a_prefix_that_is_not_there_is_refused(num_blocks):
    """Cutting to no block, or to more than there are, is an error."""
    with pytest.raises(ValueError, match="expected 1 to 2"):
        truncate(torch.ones(1, 4), (2, 2), num_blocks)
