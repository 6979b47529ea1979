"""A quantised ranker scores nearly as the ranker does, each candidate alone, in a quarter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.train.models.ranker_worlds import candidates, configs, ranker, viewers
from train.models.context import joined
from train.models.quantised import (
    Int8Embedding,
    Int8Linear,
    QuantisationError,
    num_weight_bytes,
    quantised,
)
from train.models.ranker import RankerConfig
from train.models.tokens import Tensors

CONFIG = RankerConfig(features={"history_len": 6}, transformer={"num_layers": 3})
SEEDS = st.integers(0, 2**16)


def inputs_of(config: RankerConfig, seed: int) -> Tensors:
    """Two viewers with a history of their own length, five candidates each."""
    lengths = torch.tensor([config.features.history_len, 1])
    return viewers(config.features, lengths, seed) | candidates(config.features, (2, 5), seed)


def there(inputs: Tensors) -> torch.Tensor:
    """Which candidates are no padding, bool [B, C]."""
    return inputs["candidate_post_hashes"][..., 0] != 0


@pytest.mark.parametrize("seed", range(5))
@torch.inference_mode()
def test_scores_are_near_those_of_the_ranker(seed):
    """Log-odds differ by a tenth of their deviation at most, in the mean by a fiftieth."""
    model, inputs = ranker(CONFIG, seed), inputs_of(CONFIG, seed)
    exact = model(inputs)[there(inputs)]
    off = quantised(model)(inputs)[there(inputs)] - exact

    assert off.abs().max() > 0
    assert off.square().mean().sqrt() < exact.std() / 50
    assert off.abs().max() < exact.std() / 10


@given(config=configs(), seed=SEEDS)
@torch.inference_mode()
def test_a_kept_context_scores_as_a_full_pass(config, seed):
    """No rounding depends on who else is there: context, then parts of the candidates."""
    model, inputs = quantised(ranker(config, seed)), inputs_of(config, seed)
    whole = model(inputs)
    context = joined(model.context(inputs).viewers())
    parts = [
        {n: v[:, part] if n.startswith("candidate_") else v for n, v in inputs.items()}
        for part in (slice(0, 2), slice(2, 5))
    ]
    if config.anchored:
        kept = torch.cat([model.score_candidates(context, part) for part in parts], dim=1)
    else:
        kept = model.score_candidates(context, inputs)

    seen = there(inputs)
    torch.testing.assert_close(kept[seen], whole[seen], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_an_extended_context_scores_as_a_new_one():
    """One event more, appended, gives the log-odds of the whole history, but for a step rounded."""
    model, inputs = quantised(ranker(CONFIG, 0)), inputs_of(CONFIG, 0)
    history = {n: v for n, v in inputs.items() if n.startswith("history_")}
    before = {n: v[:, :5] for n, v in history.items()}
    newest = {n: v[:, 5:] for n, v in history.items()}

    extended = model.extended(model.context(inputs | before), newest)
    ours, whole = (
        model.score_candidates(context, inputs) for context in (extended, model.context(inputs))
    )
    seen = there(inputs)
    torch.testing.assert_close(ours[seen], whole[seen], atol=1e-3, rtol=1e-3)


def test_every_weight_of_two_axes_is_int8_but_the_last():
    """The ranker's default shape takes 70 % fewer bytes; what makes the log-odds stays float32."""
    model = ranker(CONFIG, 0)
    small = quantised(model)

    assert num_weight_bytes(small) <= 0.3 * num_weight_bytes(model)
    weights = {n: t for n, t in small.state_dict().items() if t.ndim > 1}
    assert {n for n, t in weights.items() if t.dtype != torch.int8} == {"unembed.weight"}
    exact = (m for m in small.modules() if isinstance(m, nn.Linear | nn.Embedding))
    assert list(exact) == [small.unembed]
    assert {n for n, _ in small.named_modules()} == {n for n, _ in model.named_modules()}


@torch.inference_mode()
def test_tables_alone_are_quantised_on_demand():
    """Without maps only tables are int8: answers are nearer, and the bytes between the two."""
    model, inputs = ranker(CONFIG, 0), inputs_of(CONFIG, 0)
    small, tables = quantised(model), quantised(model, maps=False)

    assert num_weight_bytes(small) < num_weight_bytes(tables) < num_weight_bytes(model)
    assert any(isinstance(m, nn.Linear) for m in tables.modules())
    off = [(way(inputs) - model(inputs))[there(inputs)].square().mean() for way in (tables, small)]
    assert 0 < off[0] < off[1]


@torch.inference_mode()
def test_quantised_weights_can_be_kept():
    """A quantised ranker of the same configuration takes over the state dict, and its answers."""
    first, other = (quantised(ranker(CONFIG, seed)) for seed in (0, 1))
    inputs = inputs_of(CONFIG, 0)
    assert not torch.equal(other(inputs), first(inputs))
    other.load_state_dict(first.state_dict())
    assert torch.equal(other(inputs), first(inputs))


@given(rows=st.integers(1, 9), num_in=st.integers(1, 40), num_out=st.integers(1, 40), seed=SEEDS)
def test_a_map_is_as_near_as_its_steps(rows, num_in, num_out, seed):
    """An output is off by what half a step of weights, half a finer one of inputs can make."""
    torch.manual_seed(seed)
    x, weight = torch.randn(rows, num_in), torch.randn(num_out, num_in)
    x[0] = 0
    of_x, of_weight = (t.abs().amax(dim=1, keepdim=True) / 127 for t in (x, weight))
    of_x = of_x / 254
    most = (of_x / 2) * (weight.abs().sum(1) + num_in * of_weight.T / 2)
    most = most + (of_weight.T / 2) * x.abs().sum(1, keepdim=True)
    found = Int8Linear(weight)(x)

    assert ((found - x @ weight.T).abs() <= most * 1.001 + 1e-5).all()
    assert (found[0] == 0).all()


def test_rows_of_a_table_are_as_near_as_their_steps():
    """A row is off by half a step of its own largest number at most; the padding row is zero."""
    table = torch.randn(5, 7) * torch.tensor([0, 1e-4, 1e-2, 1, 100.0])[:, None]
    found = Int8Embedding(table)(torch.tensor([[0, 1], [3, 4]]))
    exact = table[torch.tensor([[0, 1], [3, 4]])]

    assert ((found - exact).abs() <= exact.abs().amax(-1, keepdim=True) / 253).all()
    assert (found[0, 0] == 0).all()


def test_only_a_ranker_is_quantised_and_only_once():
    """Anything else is refused by its name."""
    with pytest.raises(QuantisationError, match="Identity is no ranker"):
        quantised(nn.Identity())
    with pytest.raises(QuantisationError, match="already"):
        quantised(quantised(ranker(CONFIG, 0)))
