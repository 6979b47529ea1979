"""The ranker and the towers keep the promises that serving is built on."""

from __future__ import annotations

import pytest
import torch

from configs import ConfigError, check
from pipelines.features import CANDIDATE_CONTEXT, EVENT_CONTEXT, FeatureSpec
from pipelines.schema import DWELL_TIME
from train.models.layers import TransformerConfig
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig, TwoTower
from train.models.tokens import Tensors

SPEC = FeatureSpec(
    history_len=6,
    user_vocab=50,
    post_vocab=50,
    author_vocab=50,
    attribute_vocab=40,
    num_code_levels=2,
    content_size=3,
)
SHAPE = TransformerConfig(num_layers=2, num_heads=4, num_kv_heads=2, key_size=8)
B, C = 3, 5


@pytest.fixture
def ranker() -> Ranker:
    """An untrained ranker with grouped-query attention."""
    torch.manual_seed(0)
    return Ranker(RankerConfig(emb_size=16, transformer=SHAPE, features=SPEC)).eval()


@pytest.fixture
def towers() -> TwoTower:
    """Untrained towers."""
    torch.manual_seed(0)
    return TwoTower(RetrievalConfig(emb_size=16, transformer=SHAPE, features=SPEC)).eval()


@pytest.fixture
def inputs() -> Tensors:
    """Viewers with 6, 3 and 0 events, each with five candidates."""
    g = torch.Generator().manual_seed(1)
    events, shown = sum(EVENT_CONTEXT.values()), sum(CANDIDATE_CONTEXT.values())

    def ids(*shape: int) -> torch.Tensor:
        return torch.randint(1, 50, shape, generator=g)

    S = SPEC.history_len
    length = torch.tensor([6, 3, 0])
    past = torch.arange(S)[None, :, None] < length[:, None, None]
    return {
        "user_hashes": ids(B, 2),
        "history_post_hashes": ids(B, S, 2) * past,
        "history_author_hashes": ids(B, S, 2) * past,
        "history_actions": (torch.rand(B, S, SPEC.num_actions, generator=g) > 0.7) * past.float(),
        "history_product_surface": ids(B, S) % 16,
        "history_context": ids(B, S, len(EVENT_CONTEXT)) % events,
        "history_codes": ids(B, S, 2),
        "history_content": torch.randn(B, S, 3, generator=g),
        "user_attributes": ids(B, 4) % 40,
        "candidate_context": ids(B, C, len(CANDIDATE_CONTEXT)) % shown,
        "candidate_codes": ids(B, C, 2),
        "candidate_content": torch.randn(B, C, 3, generator=g),
        "candidate_signals": torch.randn(B, C, SPEC.num_signals, generator=g),
        "candidate_post_hashes": ids(B, C, 2),
        "candidate_author_hashes": ids(B, C, 2),
        "candidate_product_surface": ids(B, C) % 16,
    }


def candidates_of(inputs: Tensors, change) -> Tensors:
    """The same viewers with `change` applied to each candidate array."""
    return {k: change(v) if k.startswith("candidate") else v for k, v in inputs.items()}


def test_score_ignores_other_candidates(ranker, inputs):
    """A post's score is the same alone and in a crowd."""
    together = ranker(inputs)
    alone = ranker(candidates_of(inputs, lambda x: x[:, :1]))

    # Matrices of another shape are summed in another order: a few units in the last place.
    torch.testing.assert_close(alone[:, 0], together[:, 0], atol=1e-6, rtol=2e-6)


def test_order_of_candidates_does_not_matter(ranker, inputs):
    """Candidates in reverse order get the same scores, each its own."""
    reverse = candidates_of(inputs, lambda x: x.flip(1))

    torch.testing.assert_close(ranker(reverse).flip(1), ranker(inputs), atol=1e-5, rtol=0)


def test_the_fast_path_equals_the_reference(ranker, inputs):
    """Candidates handled apart get the scores of one mask over all tokens."""
    fast = ranker(inputs)
    ranker.config = ranker.config.model_copy(update={"split": False})

    torch.testing.assert_close(ranker(inputs), fast, atol=1e-5, rtol=0)


def test_score_ignores_who_the_others_are(ranker, inputs):
    """Replacing every other candidate leaves a post's score as it is."""
    others = candidates_of(inputs, lambda x: torch.cat([x[:, :1], x[:, 1:].flip(0)], dim=1))

    torch.testing.assert_close(ranker(others)[:, 0], ranker(inputs)[:, 0], atol=1e-6, rtol=0)


def test_padding_candidates_change_nothing(ranker, inputs):
    """Candidates of hash 0 on the right leave the real ones' scores as they are."""
    padded = candidates_of(inputs, lambda x: torch.cat([x, torch.zeros_like(x)], dim=1))

    torch.testing.assert_close(
        ranker.predict(padded)[:, :C], ranker.predict(inputs), atol=1e-5, rtol=0
    )


def test_viewers_do_not_mix(ranker, inputs):
    """A viewer's scores do not depend on who else is in the batch."""
    first = {name: value[:1] for name, value in inputs.items()}

    torch.testing.assert_close(
        ranker.predict(first)[0], ranker.predict(inputs)[0], atol=1e-5, rtol=0
    )


def test_history_matters(ranker, inputs):
    """Other actions on the same history give other scores."""
    changed = inputs | {"history_actions": 1 - inputs["history_actions"]}

    assert (ranker.predict(changed)[0] - ranker.predict(inputs)[0]).abs().max() > 1e-4


def test_predictions_are_probabilities_and_seconds(ranker, inputs):
    """Probabilities lie in (0, 1) and the time spent between 0 and the cap."""
    p_action = ranker.predict(inputs)
    seconds = p_action[..., DWELL_TIME]
    others = torch.arange(SPEC.num_actions) != DWELL_TIME

    assert p_action.shape == (B, C, SPEC.num_actions)
    assert ((p_action[..., others] > 0) & (p_action[..., others] < 1)).all()
    assert ((seconds > 0) & (seconds < SPEC.dwell_cap_s)).all()


def test_nothing_but_padding_stays_finite(ranker, towers, inputs):
    """A batch of padding only gives finite numbers and gradients."""
    nothing = {name: torch.zeros_like(value) for name, value in inputs.items()}
    ranker(nothing).sum().backward()
    towers.user(nothing).sum().backward()

    for model in (ranker, towers):
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_every_parameter_learns(ranker, inputs):
    """Each weight of the ranker gets a gradient from the log-odds."""
    ranker(inputs).square().sum().backward()

    assert not [name for name, p in ranker.named_parameters() if not p.grad.abs().sum() > 0]


def test_towers_give_unit_vectors(towers, inputs):
    """Viewers and posts lie on the unit sphere, also a viewer without history."""
    user = towers.user(inputs)
    post = towers.post(inputs["candidate_post_hashes"], inputs["candidate_author_hashes"])

    torch.testing.assert_close(user.norm(dim=-1), torch.ones(B), atol=1e-5, rtol=0)
    torch.testing.assert_close(post.norm(dim=-1), torch.ones(B, C), atol=1e-5, rtol=0)


def test_padding_never_reaches_a_viewer(towers, inputs):
    """What stands in padded history slots does not move the viewer."""
    past = inputs["history_post_hashes"][..., 0] != 0
    noisy = inputs | {
        "history_actions": torch.where(past[..., None], inputs["history_actions"], 1.0),
        "history_author_hashes": torch.where(past[..., None], inputs["history_author_hashes"], 7),
    }

    torch.testing.assert_close(towers.user(noisy), towers.user(inputs), atol=1e-6, rtol=0)


def test_heads_must_divide():
    """Query heads that key/value heads do not divide are refused by name."""
    values = {"num_heads": 3, "num_kv_heads": 2}

    with pytest.raises(ConfigError, match="num_heads 3 is not a multiple of num_kv_heads 2"):
        check(values, TransformerConfig, place="transformer")


@pytest.mark.parametrize(("dwell_loss", "cap_s"), [("mae", 30.0), ("tweedie", 300.0)])
def test_dwell_output_follows_its_loss(dwell_loss, cap_s, ranker, inputs):
    """Seconds are a share of the cap for mae; softplus for tweedie, never above its cap."""
    config = ranker.config.model_copy(update={"dwell_loss": dwell_loss})
    model = Ranker(config).eval()
    model.load_state_dict(ranker.state_dict())
    with torch.no_grad():
        model.unembed.weight[DWELL_TIME] *= 300  # far beyond either cap
        logit = model(inputs)[..., DWELL_TIME]
    expected = {"mae": logit.sigmoid() * 30, "tweedie": torch.nn.functional.softplus(logit)}

    assert config.dwell_cap_s == cap_s
    assert expected["tweedie"].max() > 300
    seconds = model.predict(inputs)[..., DWELL_TIME]
    torch.testing.assert_close(seconds, expected[dwell_loss].clamp(max=cap_s))


def test_bundled_dwell_output_is_read_from_its_settings(ranker):
    """The settings that a bundle keeps bring back the same output."""
    config = ranker.config.model_copy(update={"dwell_loss": "tweedie"})

    assert check(config.model_dump(mode="json"), RankerConfig, place="config.json") == config
