"""What the ranker reads of liked posts: the feed scorer's field, or the nearest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from configs import ConfigError, check
from pipelines.schema import ACTION_NAMES
from tests.train.test_models import SHAPE, SPEC, B, C, candidates_of, inputs  # noqa: F401
from train.models.fractal.config import FieldConfig
from train.models.fractal.liked import parts
from train.models.likeness import LikenessConfig, is_liked, likeness
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

FIELD = LikenessConfig(field=FieldConfig(num_waves=5, num_scales=3))
NEAREST = LikenessConfig(kind="nearest", num_nearest=2)


@pytest.fixture
def liked(inputs: Tensors) -> Tensors:  # noqa: F811
    """Viewers with 6, 3 and 0 events: clicked, clicked and then hidden, or looked at for long."""
    actions = torch.zeros_like(inputs["history_actions"])
    actions[:, :, ACTION_NAMES.index("click")] = 1
    actions[0, 1, ACTION_NAMES.index("not_interested")] = 1
    actions[0, 2] = 0
    actions[0, 2, ACTION_NAMES.index("dwell_time")] = 0.7
    return inputs | {"history_actions": actions}


def of_viewer(inputs: Tensors, row: int) -> tuple[Tensor, Tensor]:  # noqa: F811
    """Vectors of what a viewer liked, and of the candidates."""
    past, length = inputs["history_content"][row], (6, 3, 0)[row]
    kept = [at for at in range(length) if row or at not in (1, 2)]
    return past[kept], inputs["candidate_content"][row]


def test_the_field_is_the_feed_scorers(liked):
    """Scales, total, sign and dimension are those that the scorer `interference` computes."""
    found = likeness(liked, FIELD).numpy()
    assert set(found[:2, :, 4].flat) == {0, 1}
    for row in (0, 1):
        sources, candidates = of_viewer(liked, row)
        together = torch.cat([sources, candidates]).numpy()
        wanted = parts(together, len(sources), FIELD.field)
        by_scale, total = wanted.constructive + wanted.destructive, wanted.total(FIELD.field)
        np.testing.assert_allclose(found[row, :, :3], by_scale, atol=1e-5)
        np.testing.assert_allclose(found[row, :, 3], total, atol=1e-5)
        np.testing.assert_array_equal(found[row, :, 4], total < 0)
        np.testing.assert_allclose(found[row, :, 5], np.log1p(wanted.dimension), rtol=1e-6)


@pytest.mark.parametrize("row", [0, 1])
def test_nearest_are_cosines(liked, row):
    """The largest cosine to what was liked, and the mean of the two largest."""
    sources, candidates = (x / x.norm(dim=-1, keepdim=True) for x in of_viewer(liked, row))
    largest = (candidates @ sources.T).sort(dim=-1, descending=True).values
    found = likeness(liked, NEAREST)[row]
    torch.testing.assert_close(found, torch.stack([largest[:, 0], largest[:, :2].mean(-1)], -1))


@pytest.mark.parametrize("config", [FIELD, NEAREST])
def test_nothing_liked_is_zero(liked, config):
    """A viewer without a liked post that has a vector has zeros, not a number by chance."""
    assert (likeness(liked, config)[2] == 0).all()
    blank = liked | {"history_content": torch.zeros_like(liked["history_content"])}
    assert (likeness(blank, NEAREST) == 0).all()
    assert (likeness(blank, FIELD)[..., :5] == 0).all()


def test_liked_means_good_and_not_bad():
    """An action of weight 0, the time spent alone, and anything beside a hide are no likes."""
    actions = torch.zeros(5, len(ACTION_NAMES))
    for row, names in enumerate(
        [["click"], ["profile_click"], ["dwell_time"], ["click", "report"], ["click", "dwell_time"]]
    ):
        for name in names:
            actions[row, ACTION_NAMES.index(name)] = 1
    assert is_liked(actions).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("config", [FIELD, NEAREST])
def test_the_ranker_reads_it_and_keeps_its_promises(liked, config):
    """Scores change with it, ignore other candidates, and are the same packed and padded."""
    torch.manual_seed(0)
    shape = {"emb_size": 16, "transformer": SHAPE, "features": SPEC}
    ranker = Ranker(RankerConfig(likeness=config, **shape)).eval()
    plain = Ranker(RankerConfig(**shape)).eval()
    plain.load_state_dict(ranker.state_dict(), strict=False)
    scores = ranker(liked)
    assert (scores - plain(liked)).abs().max() > 1e-4
    alone = ranker(candidates_of(liked, lambda x: x[:, :1]))
    torch.testing.assert_close(alone[:, 0], scores[:, 0], atol=1e-5, rtol=1e-5)
    ranker.config = ranker.config.model_copy(update={"packed": True})
    torch.testing.assert_close(ranker(liked), scores, atol=1e-5, rtol=1e-5)
    assert scores.shape[:2] == (B, C)


def test_it_needs_vectors_of_text():
    """Without content_size it is refused, as is a field of dislikes."""
    with pytest.raises(ConfigError, match=r"set features\.content_size"):
        check({"likeness": {}}, RankerConfig, "")
    with pytest.raises(ConfigError, match=r"field\.signed must be false"):
        check({"field": {"signed": True}}, LikenessConfig, "")
