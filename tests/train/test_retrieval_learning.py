"""What the towers learn from: who is a positive, who a negative, and of whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from configs import ConfigError
from pipelines.schema import ACTION_NAMES
from tests.train.small_run import config, tables
from train.learners import RetrievalLearner, RetrievalLearning, make_learner
from train.models.tokens import Tensors

CLICK, LIKE, REPORT = (1 << ACTION_NAMES.index(a) for a in ("click", "favorite", "report"))
SEEN = CLICK | LIKE | REPORT  # all that these rows observe
ACTS = np.array([0, CLICK, LIKE, REPORT, CLICK | REPORT])


def made(rows: pa.Table) -> pa.Table:
    """The same visits with acts drawn anew, so that every kind of negative is there."""
    rng = np.random.default_rng(3)
    for name, draw in (
        ("did", lambda n: ACTS[rng.integers(len(ACTS), size=n)]),
        ("observed", lambda n: np.where(rng.random(n) < 0.8, SEEN, REPORT)),
        ("history_did", lambda n: ACTS[rng.integers(len(ACTS), size=n)]),
    ):
        lists = rows[name].combine_chunks()
        values = pa.array(draw(len(lists.flatten())), pa.int64())
        start = np.cumsum([0, *lists.value_lengths().to_pylist()])
        column = pa.ListArray.from_arrays(pa.array(start, pa.int32()), values)
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


@pytest.fixture
def rows(prepared) -> pa.Table:
    """Visits of the middle of the training days, by many viewers."""
    return made(pa.concat_tables(tables(prepared, 32)[10:12]))


def learner(prepared: Path, **learning: object) -> RetrievalLearner:
    """Towers of the same weights, whatever the settings."""
    torch.manual_seed(0)
    values = {"num_global_negatives": 40, **learning}
    return make_learner(config("retrieval", learning=values).learning, prepared)


def batch_of(of: RetrievalLearner, rows: pa.Table) -> Tensors:
    """The batch of a fixed seed."""
    return of.batch(rows, np.random.default_rng(0))


def shown(rows: pa.Table) -> list[tuple[int, int, int, int]]:
    """Row of the visit, post, did and observed of every post shown."""
    columns = [rows[name].to_pylist() for name in ("post_id", "did", "observed")]
    return [
        (row, *values)
        for row, lists in enumerate(zip(*columns, strict=True))
        for values in zip(*lists, strict=True)
    ]


def hashes(of: RetrievalLearner, posts: list[int]) -> torch.Tensor:
    """Rows of the post table. [n, hashes]."""
    return torch.from_numpy(of.spec.hashes("post", np.array(posts, np.int64)))


@pytest.mark.parametrize("positives", [("click",), ("click", "favorite")])
def test_positives_are_liked_and_not_disliked(positives, prepared, rows):
    """Any of the actions makes a positive; a negative action on the same post unmakes it."""
    of = learner(prepared, positives=positives)
    batch = batch_of(of, rows)
    wanted = sum(1 << ACTION_NAMES.index(name) for name in positives)
    expected = [(r, post) for r, post, did, _ in shown(rows) if did & wanted and not did & REPORT]

    assert batch["viewer"].tolist() == [row for row, _ in expected]
    posts = hashes(of, [post for _, post in expected])
    assert torch.equal(batch["pool_post_hashes"][: len(expected)], posts)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, lambda did, seen: None),
        ({"hard_negatives": True}, lambda did, seen: 1.0 if did & REPORT else None),
        (
            {"soft_negative_weight": 0.5},
            lambda did, seen: 0.5 if not did & (REPORT | CLICK) and seen & CLICK else None,
        ),
    ],
    ids=["none", "hard", "soft"],
)
def test_own_negatives_are_their_viewers_alone(settings, kept, prepared, rows):
    """Disliked or ignored posts of a visit join the denominators of that visit, and no other."""
    of = learner(prepared, **settings)
    batch = batch_of(of, rows)
    viewer = batch["viewer"]
    own = [
        (row, post, kept(did, seen))
        for row, post, did, seen in shown(rows)
        if row in viewer and kept(did, seen) is not None
    ]
    num_sampled = len(viewer) + 40

    assert len(batch["pool_log_weight"]) == num_sampled + len(own)
    assert bool(own) == bool(settings)
    owner = torch.tensor([row for row, _, _ in own])
    posts = hashes(of, [post for _, post, _ in own])
    assert torch.equal(batch["left_out"][:, num_sampled:], viewer[:, None] != owner)
    assert torch.equal(batch["pool_post_hashes"][num_sampled:], posts)
    weight = torch.tensor([weight for _, _, weight in own])
    torch.testing.assert_close(batch["pool_log_weight"][num_sampled:].exp(), weight)


@pytest.mark.parametrize("masked", [False, True])
def test_known_positives_are_no_negatives(masked, prepared, rows):
    """Copies of the positive never compete; with the mask, nor does what its viewer liked."""
    of = learner(prepared, mask_known_positives=masked, hard_negatives=True)
    batch = batch_of(of, rows)
    table = rows.to_pylist()
    liked: dict[int, set[int]] = {}
    for row in table:
        for side in ("", "history_"):
            for post, did in zip(row[f"{side}post_id"], row[f"{side}did"], strict=True):
                if did & CLICK and not did & REPORT:
                    liked.setdefault(row["user_id"], set()).add(post)
    viewer = batch["viewer"].tolist()
    num_sampled = len(viewer) + 40
    by_hash = {
        tuple(h): post for post, h in zip(of.post_id, hashes(of, of.post_id).tolist(), strict=True)
    }
    pool = [by_hash[tuple(h)] for h in batch["pool_post_hashes"][:num_sampled].tolist()]
    expected = [
        [
            post == pool[p] or (masked and post in liked[table[viewer[p]]["user_id"]])
            for post in pool
        ]
        for p in range(len(viewer))
    ]

    assert torch.equal(batch["left_out"][:, :num_sampled], torch.tensor(expected))
    assert (torch.tensor(expected).sum() > len(viewer)) or not masked


def test_log_q_is_of_expected_copies(prepared, rows):
    """Drawn posts weigh one over their expected copies; without log-Q all weigh 1."""
    of = learner(prepared)
    batch = batch_of(of, rows)
    num_positives = len(batch["viewer"])
    posts = {tuple(h): i for i, h in enumerate(hashes(of, of.post_id).tolist())}
    place = np.array([posts[tuple(h)] for h in batch["pool_post_hashes"].tolist()])
    expected = num_positives * of.share[place] + 40 / len(of.post_id)

    np.testing.assert_allclose(batch["pool_log_weight"].exp(), 1 / expected, rtol=1e-5)
    assert not batch_of(learner(prepared, log_q="none"), rows)["pool_log_weight"].any()


def test_each_log_q_is_another_loss(prepared, rows):
    """The positive carries its own correction in the usual form only."""
    losses = {}
    for log_q in ("none", "standard", "corrected"):
        of = learner(prepared, log_q=log_q)
        losses[log_q] = of.loss(of.model, batch_of(of, rows))["loss"].item()

    assert len({round(loss, 4) for loss in losses.values()}) == 3


def test_viewers_weigh_the_same(prepared, rows):
    """With mean_over viewers, a visit's positives share one weight, and viewers are counted."""
    of = learner(prepared, mean_over="viewers", num_global_negatives=5)
    batch = batch_of(of, rows)
    each = [
        of.loss(of.model, batch | {"weight": only})["loss"]
        for only in torch.eye(len(batch["viewer"]))
    ]
    viewer = batch["viewer"]
    groups = [torch.stack(each)[viewer == v].mean() for v in viewer.unique()]
    result = of.loss(of.model, batch)

    assert len(groups) < len(each)
    torch.testing.assert_close(result["loss"], torch.stack(groups).mean())
    assert result["weight"].item() == pytest.approx(len(groups))


def test_dropped_histories_are_forgotten_in_training_only(prepared, rows):
    """Some viewers are learned as if nothing were known of their past; validation sees it all."""
    of, whole = learner(prepared, history_dropout=0.5), learner(prepared)
    batch = batch_of(of, rows)
    forgotten = batch["forgotten"]
    seen: list[torch.Tensor] = []
    of.model.register_forward_hook(lambda model, inputs, out: seen.append(out[0]))
    of.loss(of.model.train(), batch)
    of.loss(of.model.eval(), batch)
    user = whole.model(batch)[0]
    none = whole.model(
        batch | {"history_post_hashes": torch.zeros_like(batch["history_post_hashes"])}
    )[0]

    assert 0 < forgotten.sum() < len(forgotten)
    torch.testing.assert_close(seen[0], torch.where(forgotten[:, None], none, user))
    torch.testing.assert_close(seen[1], user)
    assert not torch.allclose(user, none)


@pytest.mark.parametrize(("learned", "used"), [(5.0, 1.0), (0.5, 0.5), (1e-4, 0.01)])
def test_temperature_stays_in_its_range(learned, used, prepared, rows):
    """Whatever the learned temperature, the loss is that of the nearest one allowed."""
    of = learner(prepared)
    batch = batch_of(of, rows)

    def at(temperature: float) -> dict[str, torch.Tensor]:
        of.model.log_temperature.data.fill_(np.log(temperature))
        return of.loss(of.model, batch)

    assert at(learned)["temperature"].item() == pytest.approx(used)
    torch.testing.assert_close(at(learned)["loss"], at(used)["loss"])


def test_temperature_must_start_in_its_range():
    """A start outside of the range is refused with both."""
    with pytest.raises(ConfigError, match=r"temperature_range \(0\.2, 1\.0\): .* 0\.1"):
        config("retrieval", learning={"temperature_range": (0.2, 1.0)})


def test_negative_action_is_no_positive(prepared):
    """Reports cannot be what a viewer is brought near to."""
    with pytest.raises(ValueError, match="positives: 'report' is a negative action"):
        make_learner(RetrievalLearning(positives=("click", "report")), prepared)
