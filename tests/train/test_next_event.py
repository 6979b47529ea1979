"""The towers learn every event of a history from those before it, and from nothing else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from configs import ConfigError, check
from pipelines.features import FeatureSpec
from pipelines.schema import ACTION_NAMES
from tests.conftest import SMALL_MODEL
from train.learners import NextEventLearning, make_learner
from train.losses import uniform_softmax_loss

CLICK = 1 << ACTION_NAMES.index("click")


def learner(data, **settings):
    """A learner of small towers on the test world."""
    torch.manual_seed(0)
    features = SMALL_MODEL["features"] | {"since": False}
    model = SMALL_MODEL | {"features": features} | settings.pop("model", {})
    return make_learner(check({"model": model, **settings}, NextEventLearning, "test"), data)


def sequences(data):
    """The world's sequences."""
    return pq.read_table(data / "sequences")


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 20])
def test_padding_in_groups_changes_nothing(prepared, pooling, rows_at_once):
    """Where something is learned, viewers are placed alike however they are padded."""
    made = learner(prepared, model={"pooling": pooling})
    batch = made.batch(sequences(prepared).slice(0, 20), np.random.default_rng(0))
    with torch.inference_mode():
        whole = made.model.users_along(batch).flatten(0, 1)[batch["point"]]
        parts = made.model.users_along(batch, rows_at_once).flatten(0, 1)[batch["point"]]

    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_point_in_a_history_is_a_history_cut_there(prepared, pooling):
    """One pass places a viewer after each event where a pass over the cut history would."""
    made = learner(prepared, model={"pooling": pooling})
    row = sequences(prepared).filter(pa.array(lengths(sequences(prepared)) > 6)).slice(0, 1)
    whole = made.batch(row, np.random.default_rng(0))
    with torch.inference_mode():
        along = made.model.users_along(whole)[0]
        for cut in (1, 3, 5):
            spec = made.spec.model_copy(update={"history_len": 8})
            history = {
                name: row[name].combine_chunks()[0].as_py()[-8:][:cut]
                for name in row.column_names
                if name.startswith("history")
            }
            short = pa.table({"user_id": row["user_id"], **{n: [v] for n, v in history.items()}})
            short = short.cast(row.schema)
            made.spec = spec
            user = made.model.user(made.batch(short, np.random.default_rng(0)))
            torch.testing.assert_close(along[cut], user[0])


def by_length(rows):
    """Rows in the order in which the learner takes them."""
    return rows.take(np.argsort(lengths(rows), kind="stable"))


def lengths(rows):
    """Events of each sequence."""
    return np.array([len(posts) for posts in rows["history_post_id"].to_pylist()])


def test_positives_are_the_clicked_events_that_follow(prepared):
    """Each point of a sequence is asked for the event right after it, if that was clicked."""
    made, rows = learner(prepared), by_length(sequences(prepared).slice(0, 20))
    batch = made.batch(rows, np.random.default_rng(0))
    width = 1 + batch["history_post_hashes"].shape[1]
    expected = {
        (viewer, slot, post)
        for viewer, (posts, did) in enumerate(
            zip(rows["history_post_id"].to_pylist(), rows["history_did"].to_pylist(), strict=True)
        )
        for slot, (post, acts) in enumerate(zip(posts[-8:], did[-8:], strict=True))
        if acts & CLICK
    }
    point, post = batch["point"].numpy(), made.corpus.post_id[batch["positive"].numpy()]

    assert set(zip(point // width, point % width, post, strict=True)) == expected


def test_visits_are_learned_from_the_end_of_the_history(prepared):
    """A row of examples asks for its clicked posts where its history ends."""
    rows = pq.read_table(prepared / "examples" / "split=validate", partitioning=None)
    rows = by_length(rows.slice(0, 9))
    batch = learner(prepared).batch(rows, np.random.default_rng(0))
    width = 1 + batch["history_post_hashes"].shape[1]
    ends = np.minimum(lengths(rows), 8)
    point = batch["point"].numpy()

    assert len(point) == sum(bool(acts & CLICK) for did in rows["did"].to_pylist() for acts in did)
    assert (point % width == ends[point // width]).all()


def test_all_posts_as_negatives_are_the_whole_softmax():
    """With every post as a negative the loss is the cross-entropy over the corpus."""
    torch.manual_seed(0)
    user, posts = (F.normalize(torch.randn(n, 8), dim=-1) for n in (5, 12))
    positive, temperature = torch.tensor([0, 3, 3, 11, 7]), torch.tensor(0.2)
    loss = uniform_softmax_loss(user, posts, positive, torch.arange(12), temperature)

    torch.testing.assert_close(loss, F.cross_entropy(user @ posts.T / temperature, positive))


def test_sampled_negatives_estimate_the_whole_softmax():
    """Over many samples the mean of exp(loss) is that of the whole softmax: an unbiased sum."""
    torch.manual_seed(0)
    user, posts = (F.normalize(torch.randn(n, 8), dim=-1) for n in (1, 40))
    positive, temperature = torch.tensor([3]), torch.tensor(0.5)
    whole = uniform_softmax_loss(user, posts, positive, torch.arange(40), temperature)
    drawn = [
        uniform_softmax_loss(user, posts, positive, torch.randperm(40)[:10], temperature).exp()
        for _ in range(4000)
    ]

    torch.testing.assert_close(torch.stack(drawn).mean(), whole.exp(), rtol=0.02, atol=0)


def test_the_moment_of_asking_is_refused(prepared):
    """Features relative to the request cannot be learned along a history: said at once."""
    with pytest.raises(ConfigError, match="since must be false"):
        check({"model": {"features": {"since": True}}}, NextEventLearning, "test")
    assert NextEventLearning(model={"features": FeatureSpec(since=False)}).kind == "next_event"


def test_learns_the_planted_tastes(prepared):
    """Thirty steps on the sequences bring the loss well under that of not knowing anything."""
    made = learner(prepared)
    optimizer = torch.optim.Adam(made.model.parameters(), lr=0.01)
    rows = sequences(prepared)
    losses = []
    for step in range(30):
        loss = made.loss(made.model, made.batch(rows, np.random.default_rng(step)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] - 0.3
