"""Borrowed negatives: whose posts they are, what they teach, and as of when they are seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.encoding import pad
from pipelines.facts import Facts
from pipelines.features import candidate_inputs
from pipelines.schema import ACTION_NAMES, ACTIONS, DWELL_TIME
from tests.train.small_run import config, tables
from train.learners import RankingLearner, make_learner
from train.learners.borrowed import borrow
from train.models.tokens import Tensors

K = 3


@pytest.fixture
def rows(prepared) -> pa.Table:
    """Examples of the middle of the training days, where histories are not empty."""
    return pa.concat_tables(tables(prepared, 64)[10:12])


def learner(prepared: Path, num_borrowed: int) -> RankingLearner:
    """One that borrows."""
    torch.manual_seed(0)
    return make_learner(
        config("ranker", learning={"num_borrowed": num_borrowed}).learning, prepared
    )


def test_borrowed_posts_are_others_new_and_out(prepared, rows):
    """Each is shown to someone else, unknown to the viewer, published, and borrowed once a row."""
    facts = Facts.load(prepared)
    borrowed = borrow(rows, K, facts, np.random.default_rng(0))
    shown_to: dict[int, set[int]] = {}
    known: dict[int, set[int]] = {}
    for row in rows.to_pylist():
        known.setdefault(row["user_id"], set()).update(row["history_post_id"], row["post_id"])
        for post in row["post_id"]:
            shown_to.setdefault(post, set()).add(row["user_id"])
    created_ms = dict(zip(facts.post_id, facts.created_at_ms, strict=False))

    assert (borrowed.post_id != 0).mean() > 0.9
    for user, at_ms, posts in zip(
        rows["user_id"].to_pylist(), rows["at_ms"].to_pylist(), borrowed.post_id, strict=True
    ):
        posts = posts[posts != 0].tolist()
        assert len(set(posts)) == len(posts)
        assert not known[user] & set(posts)
        assert all(shown_to[post] - {user} for post in posts)
        assert all(created_ms[post] <= at_ms for post in posts)


def test_small_batch_lends_a_post_once_a_row(prepared, rows):
    """Where draws must repeat, a row still holds each post once, and padding for the rest."""
    few = rows.slice(0, 5)
    borrowed = borrow(few, K, Facts.load(prepared), np.random.default_rng(0))

    assert (borrowed.post_id == 0).any()
    for posts in borrowed.post_id:
        posts = posts[posts != 0]
        assert len(np.unique(posts)) == len(posts)


def test_weight_is_one_over_the_copies(prepared, rows):
    """Whatever the number of its copies, a post weighs 1 in the batch, and padding nothing."""
    borrowed = borrow(rows, K, Facts.load(prepared), np.random.default_rng(0))
    posts, place = np.unique(borrowed.post_id, return_inverse=True)
    total = np.bincount(place.ravel(), borrowed.weight.ravel())
    copies = np.bincount(place.ravel())

    np.testing.assert_allclose(total[posts != 0], 1, rtol=1e-5)
    assert copies[posts != 0].max() > 1
    assert total[posts == 0].sum() == 0


def test_nobody_to_borrow_from_gives_padding(prepared, rows):
    """A batch of one viewer's visits borrows nothing, and still has a loss."""
    user = rows["user_id"].to_numpy()
    mine = rows.filter(pa.array(user == np.bincount(user).argmax()))
    borrowing = learner(prepared, K)
    batch = borrowing.batch(mine, np.random.default_rng(0))

    assert not batch["candidate_post_hashes"][:, -K:].any()
    assert not batch["label_mask"][:, -K:].any()
    assert borrowing.loss(borrowing.model, batch)["loss"].isfinite()


def test_borrowed_are_seen_as_of_the_borrowing_visit(prepared, rows):
    """Their features are those of a candidate of this viewer, shown with the first of the visit."""
    borrowing = learner(prepared, K)
    batch = borrowing.batch(rows, np.random.default_rng(0))
    borrowed = borrow(rows, K, borrowing.facts, np.random.default_rng(0))
    there = borrowed.post_id != 0
    at_ms = rows["at_ms"].to_numpy()[:, None] * there
    surface = pad(rows["surface"], 1) * there
    alone = candidate_inputs(
        rows, borrowed.post_id, borrowed.author_id, surface, at_ms, borrowing.spec, borrowing.facts
    )

    assert {"candidate_signals", "candidate_context"} <= alone.keys()
    for name, expected in alone.items():
        np.testing.assert_array_equal(batch[name][:, -K:].numpy(), expected, err_msg=name)


def test_borrowed_teach_what_a_stranger_would_not_do(prepared, rows):
    """All labels are 0; negative actions and the time spent are not observed, the others are."""
    batch = learner(prepared, K).batch(rows, np.random.default_rng(0))
    mask = batch["label_mask"][:, -K:]
    there = batch["candidate_post_hashes"][:, -K:, 0] != 0
    taught = mask[there].amax(dim=0)

    assert not batch["labels"][:, -K:].any()
    assert not mask[~there].any()
    assert taught[ACTION_NAMES.index("click")] == 1
    assert taught[DWELL_TIME] == 0
    assert not any(taught[i] for i, action in enumerate(ACTIONS) if action.weight < 0)


def test_own_candidates_stay_as_they_are(prepared, rows):
    """What borrowing adds stands behind: inputs and targets of the shown posts do not change."""
    plain, more = (learner(prepared, k).batch(rows, np.random.default_rng(0)) for k in (0, K))

    assert more["loss_weight"][:, :-K].eq(1).all()
    for name, expected in plain.items():
        own = more[name]
        if name.startswith(("candidate_", "label")):
            own = own[:, :-K]
        torch.testing.assert_close(own, expected, msg=name)


def test_held_out_rows_are_measured_without_borrowed(prepared, rows):
    """The same weights give the same validation, however many posts training borrows."""
    plain, more = learner(prepared, 0), learner(prepared, K)

    def measured(of: RankingLearner) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        batch: Tensors = of.batch(rows, np.random.default_rng(0))
        with torch.no_grad():
            return of.measure(of.model.eval(), batch)

    first, second = measured(plain), measured(more)
    assert first.keys() == second.keys()
    for name, pair in first.items():
        torch.testing.assert_close(second[name], pair, msg=name)
