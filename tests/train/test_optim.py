"""Optimisers equal their formulas, and each parameter falls to the right one."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs import check
from train.models.layers import Linear, Transformer, TransformerConfig
from train.models.layout import make_layout
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.optim import Average, OptimConfig, RowwiseAdagrad, kind_of, make_optimizer

MODELS = {"ranker": (Ranker, RankerConfig), "two-tower": (TwoTower, RetrievalConfig)}
SMALL = {"history_len": 4, "user_vocab": 50, "post_vocab": 50, "author_vocab": 20}


def build(kind: str, width: int = 16) -> nn.Module:
    """A model of this width; heads grow with it."""
    model, config = MODELS[kind]
    heads = {"num_layers": 1, "num_heads": width // 8, "num_kv_heads": width // 8, "key_size": 8}
    values = {"emb_size": width, "transformer": heads, "features": SMALL}
    return model(check(values, config, place="test"))


@pytest.mark.parametrize("kind", MODELS)
def test_kinds_follow_from_what_grows_with_the_width(kind):
    """What a model of twice the width shows of each parameter is the kind its name gives it."""
    narrow, wide = build(kind), dict(build(kind, width=32).named_parameters())
    modules = dict(narrow.named_modules())
    kinds = {(True, True): "hidden", (True, False): "input", (False, True): "output"}

    for name, weight in narrow.named_parameters():
        module = modules[name.rpartition(".")[0]]
        said = kind_of(name, module, weight)
        if isinstance(module, nn.Linear):
            grows = zip(weight.shape, wide[name].shape, strict=True)
            assert said == kinds[tuple(a != b for a, b in grows)], name
        else:
            assert said == ("table" if name.startswith("tables.") else "rest"), name


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("matrices", ["adamw", "muon"])
@pytest.mark.parametrize("base_width", [None, 8])
def test_every_parameter_has_one_optimiser(kind, tables, matrices, base_width):
    """Whatever the settings, each parameter is moved by exactly one optimiser."""
    model = build(kind)
    config = OptimConfig(table_optimizer=tables, matrix_optimizer=matrices, base_width=base_width)
    moved = [p for group in make_optimizer(model, config).param_groups for p in group["params"]]

    assert sorted(map(id, moved)) == sorted(map(id, model.parameters()))


def test_muon_gets_the_hidden_matrices_only():
    """Tables, embeddings, input and output maps and norms stay with AdamW."""
    model = build("ranker")
    optimizer = make_optimizer(model, OptimConfig(matrix_optimizer="muon"))
    (muon,) = (part for part in optimizer.parts if isinstance(part, torch.optim.Muon))
    chosen = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}

    assert {name.split(".")[0] for name in names} == {
        "tokens",
        "candidate",
        "signals",
        "transformer",
    }
    assert names & {"tokens.action.weight", "signals.0.weight", "unembed.weight"} == set()
    assert not any("norm" in name for name in names)


def test_default_is_adamw_in_two_groups():
    """With default settings each step is that of one AdamW for tables and matrices, to the bit."""
    ours, theirs = build("ranker"), build("ranker")
    theirs.load_state_dict(ours.state_dict())
    config = OptimConfig()
    tables = [p for name, p in theirs.named_parameters() if "tables." in name]
    others = [p for name, p in theirs.named_parameters() if "tables." not in name]
    groups = [
        {"params": tables, "lr": config.table_lr, "weight_decay": 0.0},
        {"params": others, "lr": config.lr, "weight_decay": config.weight_decay},
    ]
    steps = make_optimizer(ours, config), torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    for _, (model, optimizer) in itertools.product(
        range(3), zip((ours, theirs), steps, strict=True)
    ):
        for p in model.parameters():
            p.grad = p.detach().cos()
        optimizer.step()

    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name]), name


def naive_adagrad(
    table: list[list[float]],
    grads: list[Tensor],
    lr: float,
    start: float,
    fade: float,
    decay: float,
) -> list[list[float]]:
    """Row-wise Adagrad, one number at a time."""
    sums = [start] * len(table)
    for grad in grads:
        for r, row in enumerate(grad.tolist()):
            sums[r] = sums[r] * fade + sum(g * g for g in row) / len(row)
            if any(row):
                table[r] = [
                    w * (1 - lr * decay) - lr * g / (sums[r] ** 0.5 + 1e-10)
                    for w, g in zip(table[r], row, strict=True)
                ]
    return table


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("start", "half_life", "decay"), [(0.0, None, 0.0), (0.1, 2.0, 0.3)])
def test_rowwise_adagrad_equals_its_formula(sparse, start, half_life, decay):
    """Dense and sparse gradients move rows as a loop over rows does; others stay untouched."""
    table = nn.Parameter(torch.randn(6, 3))
    grads = [torch.randn(6, 3) * (torch.rand(6, 1) < 0.6) for _ in range(5)]
    for grad in grads:
        grad[4] = 0
    fade = 0.5 ** (1 / half_life) if half_life else 1.0
    expected = naive_adagrad(table.tolist(), grads, 0.2, start, fade, decay)
    before = table[4].tolist()
    optimizer = RowwiseAdagrad([table], 0.2, start, 1e-10, half_life, decay)
    for grad in grads:
        table.grad = grad.to_sparse(1) if sparse else grad
        optimizer.step()

    torch.testing.assert_close(table.detach(), torch.tensor(expected))
    assert table[4].tolist() == before


class Net(nn.Module):
    """Tokens of unit size through the transformer; its output starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({"post": nn.Embedding(40, width)})
        shape = TransformerConfig(num_heads=width // 16, num_kv_heads=width // 16, key_size=16)
        self.transformer = Transformer(width, shape)
        self.unembed = Linear(width, 1, variance=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        """Log-odds. [B, T] -> [B, T, 1]."""
        layout = make_layout(torch.ones_like(ids, dtype=torch.bool))
        return self.unembed(self.transformer(self.tables["post"](ids), layout))


def moved(width: int, config: OptimConfig) -> dict[str, float]:
    """How far four steps move what each kind of layer gives, root mean square."""
    torch.manual_seed(0)
    model, draws = Net(width), torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (8, 6), generator=draws)
    labels = (torch.rand(8, 6, 1, generator=draws) < 0.4).float()
    seen: dict[str, Tensor] = {}
    last = model.transformer.layers[1]
    layers = {
        "attention": last.attention.output,
        "gate": last.ffn.gate,
        "down": last.ffn.down,
        "logits": model.unembed,
    }
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.detach()}))
    optimizer = make_optimizer(model, config)
    model(ids)
    before = dict(seen)
    for _ in range(4):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(ids), labels).backward()
        optimizer.step()
    model(ids)
    return {name: (seen[name] - before[name]).square().mean().sqrt().item() for name in layers}


@pytest.mark.parametrize("matrices", ["adamw", "muon"])
def test_steps_of_activations_do_not_grow_with_the_width(matrices):
    """Coordinate check: at four times the width, a few steps move all layers as far as before.

    Without base_width they move each of them farther.
    """
    rates = {"lr": 3e-3, "table_lr": 3e-3, "matrix_optimizer": matrices}
    for base_width in (32, None):
        config = OptimConfig(base_width=base_width, **rates)
        narrow, wide = moved(32, config), moved(128, config)
        for name, distance in wide.items():
            ratio = distance / narrow[name]
            assert 0.75 < ratio < 1.35 if base_width else ratio > 1.5, (name, ratio)


def test_base_width_leaves_the_rate_of_that_width_alone():
    """A matrix of base_width inputs has the peak rate, one of twice that half; decay is alike."""
    config = OptimConfig(base_width=16)
    model = build("ranker")
    groups = make_optimizer(model, config).param_groups
    by_id = {id(p): group for group in groups for p in group["params"]}
    query, user = model.transformer.layers[0].attention.query, model.tokens.user

    assert by_id[id(query.weight)]["lr"] == config.lr
    assert by_id[id(user.weight)]["lr"] == config.lr / 2
    assert all(
        group["lr"] * group["weight_decay"] == pytest.approx(config.lr * config.weight_decay)
        for group in groups[1:]
    )


def test_average_equals_its_formula():
    """The averaged weights are those of the recurrence, one number at a time."""
    model = nn.Linear(2, 1)
    average = Average(model, decay=0.5)
    expected = model.weight[0].tolist()
    for n in range(1, 12):
        with torch.no_grad():
            model.weight.add_(torch.randn(1, 2))
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        now = model.weight[0].tolist()
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, now, strict=True)]

    assert average.weights["weight"][0].tolist() == pytest.approx(expected, rel=1e-5)


def test_average_stands_in_for_the_weights_and_goes_again():
    """Within `in_place` the model is the average; afterwards, also after an error, it is itself."""
    model = nn.Linear(2, 1)
    average = Average(model, decay=0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    before, inside = copy.deepcopy(model.state_dict()), {}

    def fail() -> None:
        with average.in_place():
            inside.update(copy.deepcopy(model.state_dict()))
            raise KeyError("within")

    with pytest.raises(KeyError):
        fail()

    torch.testing.assert_close(inside["weight"], before["weight"] - 1)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
