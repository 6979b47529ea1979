"""Heads learn what their condition says, from the rows that they may see, and reproducibly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError
from tests.train.prefix.planted import planted, small
from train.models.prefix import make_head
from train.prefix.batches import Partners, balanced, validation_rows
from train.prefix.metrics import cosines, r_precision
from train.prefix.objectives import CONDITIONS, changed, condition
from train.prefix.teachers import make_teacher
from train.prefix.training import fit_head, shape_for

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=40).map(
    lambda fine: np.stack([np.array(fine) // 2, np.array(fine)], axis=1)
)


@settings(max_examples=30)
@given(LABELS, st.integers(0, 99))
def test_validation_takes_from_every_class_that_can_give(labels, seed):
    """A class of two or more keeps some to learn from and gives some; one of one gives none."""
    held = validation_rows(labels, 0.3, seed)

    assert len(set(held.tolist())) == len(held)
    for fine in np.unique(labels[:, 1]):
        rows = np.flatnonzero(labels[:, 1] == fine)
        num = np.isin(rows, held).sum()
        assert num == (max(1, int(len(rows) * 0.3)) if len(rows) > 1 else 0)


@settings(max_examples=30)
@given(LABELS, st.integers(0, 99))
def test_partners_are_others_of_the_class(labels, seed):
    """A text is paired with another of its class, and with itself only if it is alone."""
    fine = labels[:, 1]
    drawn = Partners(fine).draw(np.random.default_rng(seed))

    assert (fine[drawn] == fine).all()
    alone = np.bincount(fine)[fine] == 1
    assert ((drawn == np.arange(len(fine))) == alone).all()


@settings(max_examples=30)
@given(LABELS, st.integers(1, 10), st.integers(1, 4), st.integers(0, 99))
def test_balanced_batches_use_each_text_once(labels, batch_size, per_class, seed):
    """No text comes twice in an epoch, and only what does not fill a batch is left out."""
    rng = np.random.default_rng(seed)
    batches = list(balanced(labels, batch_size, per_class, rng))
    rows = np.concatenate(batches)

    assert len(set(rows.tolist())) == len(rows) > len(labels) - batch_size
    assert {len(batch) for batch in batches} == {min(batch_size, len(labels))}


def test_balanced_batches_hold_positives():
    """In batches of whole groups every text has another of its class beside it."""
    labels = np.repeat(np.arange(6), 8)[:, None]
    for rows in balanced(labels, 12, 4, np.random.default_rng(0)):
        assert (np.bincount(labels[rows, 0])[labels[rows, 0]] >= 4).all()


@pytest.mark.parametrize("name", ["v5", "own"])
def test_planted_structure_is_found(name):
    """The first block knows coarse classes better than the features do, the whole the fine."""
    x, y = planted()
    head = fit_head(x, y, small(name, num_epochs=5, lr=3e-3, batch_size=32), seed=0)
    fresh, truth = planted(300, seed=1)
    raw = cosines(torch.from_numpy(fresh))
    coarse = r_precision(cosines(head.prefix(fresh, 1)), truth[:, 0]).mean()
    fine = r_precision(cosines(head.embed(fresh)), truth[:, 1]).mean()

    assert coarse > r_precision(raw, truth[:, 0]).mean() + 0.3
    short = r_precision(cosines(head.prefix(fresh, 1)), truth[:, 1]).mean()
    assert fine > short + 0.1


def test_inverted_teaches_the_other_way_round():
    """With labels inverted, the whole knows the coarse classes better than its prefix does."""
    x, y = planted()
    head = fit_head(x, y, small("inverted", num_epochs=5, lr=3e-3, batch_size=32), seed=0)
    fresh, truth = planted(300, seed=1)
    short, whole = (
        r_precision(cosines(v), truth[:, 0]).mean()
        for v in (head.prefix(fresh, 1), head.embed(fresh))
    )

    assert whole > short + 0.05


@pytest.mark.parametrize("num_levels", [2, 3])
@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_trains(name, num_levels):
    """Each condition lowers its loss, on two levels and three, and keeps its best epoch."""
    x, y = planted(400)
    labels = np.concatenate([y[:, :1] // 2, y], axis=1)[:, -num_levels:]
    config = small(name, num_levels, lr=1e-3, batch_size=64)
    head = fit_head(x, labels, config, seed=0)

    losses = [epoch["loss"] for epoch in head.epochs]
    assert losses[-1] < losses[0]
    scores = [epoch["score"] for epoch in head.epochs]
    assert scores[head.kept] == max(scores)
    torch.testing.assert_close(head.embed(x).norm(dim=1), torch.ones(400))


def test_one_level_leaves_the_fine_part_to_the_encoder():
    """With topics alone the first block learns them and the rest keeps the encoder's neighbours."""
    x, y = planted()
    head = fit_head(x, y[:, :1], small("own", 1, num_epochs=5, lr=3e-3, batch_size=32), seed=0)
    fresh, truth = planted(300, seed=1)
    raw = cosines(torch.from_numpy(fresh))
    fine_part = cosines(head.embed(fresh)[:, 8:])

    coarse = r_precision(cosines(head.prefix(fresh, 1)), truth[:, 0]).mean()
    assert coarse > r_precision(raw, truth[:, 0]).mean() + 0.3
    assert r_precision(fine_part, truth[:, 1]).mean() > r_precision(raw, truth[:, 1]).mean() - 0.05


def test_prefixes_of_a_batch_are_supervised_at_their_own_length(monkeypatch):
    """With j = 1 and j = 4 in one batch V5 teaches all blocks; its tables were made with one."""
    x, y = planted(64)
    lengths = torch.tensor([1, 4] * 8)
    monkeypatch.setattr("train.prefix.teachers.draw_lengths", lambda *_: lengths)
    reached = {}
    for name in ("v5", "v5_legacy"):
        config = small(name)
        objective = config.objective.model_copy(update={"whole": (0.0, 0.0), "keep": (1.0,) * 4})
        config = config.model_copy(update={"objective": objective})
        torch.manual_seed(0)
        head = make_head(shape_for(config, x.shape[1], y)).train()
        # Partners must not reach the last block either: only prefixes are to be seen.
        whole = head.whole
        monkeypatch.setattr(head, "whole", lambda blocks, whole=whole: whole(blocks).detach())
        next(make_teacher(head, config, torch.from_numpy(x), y).epoch((0,))).backward()
        reached[name] = [bool(out[1].weight.grad.any()) for out in head.blocks_out]

    assert reached == {"v5": [True] * 4, "v5_legacy": [True, False, False, False]}


def test_the_same_seed_gives_the_same_head():
    """Training is a function of its arguments, and leaves the caller's random numbers alone."""
    x, y = planted(300)
    state = torch.random.get_rng_state()
    first, again, other = (fit_head(x, y, small("v5", num_epochs=1), seed) for seed in (3, 3, 4))

    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.embed(x), again.embed(x))
    assert not torch.equal(first.embed(x), other.embed(x))


def test_validation_rows_teach_nothing():
    """Other features in the rows that are held out leave the trained weights as they were."""
    x, y = planted(300)
    config = small("v5", num_epochs=1)
    first = fit_head(x, y, config, seed=0)
    x[first.validation] = 5.0
    again = fit_head(x, y, config, seed=0)

    for ours, theirs in zip(first.head.parameters(), again.head.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_labels_that_do_not_fit_are_refused():
    """Too few levels or blocks, other lengths and too few texts are told apart."""
    x, y = planted(100)
    with pytest.raises(ValueError, match="3 levels, but v5 was made for 2"):
        fit_head(x, np.concatenate([y, y[:, :1]], axis=1), small("v5"), 0)
    with pytest.raises(ValueError, match=r"expected \[100, levels\]"):
        fit_head(x, y[:50], small("v5"), 0)
    with pytest.raises(ValueError, match="two batches of 128"):
        fit_head(x, y, small("own"), 0)
    with pytest.raises(ValueError, match="1 blocks, but 2 parts"):
        fit_head(x, y, small("own", batch_size=8, block_sizes=(32,)), 0)


@pytest.mark.parametrize("name", ["v5", "own"])
def test_what_cannot_be_learned_from_is_refused(name):
    """Vectors that are no numbers, and splits that leave too little on a side, stop before work."""
    x, y = planted(100)
    x[7] = np.nan
    with pytest.raises(ValueError, match="1 rows are not finite, the first is 7"):
        fit_head(x, y, small(name, batch_size=16), 0)
    x, y = planted(40)
    alone = np.stack([y[:, 0], np.arange(40)], axis=1)
    with pytest.raises(ValueError, match="0 validation rows"):
        fit_head(x, alone, small(name, batch_size=16), 0)
    with pytest.raises(ValueError, match="to learn from, expected a batch of 16"):
        fit_head(x, y[:, [0, 0]], small(name, batch_size=16, validation_share=0.9), 0)


@pytest.mark.parametrize("name", ["v5", "mrl", "no_prefix"])
def test_an_objective_is_for_as_many_blocks_as_there_are(name):
    """Two widths beside shares of four blocks stop where they are set, not in the first batch."""
    with pytest.raises(ValueError, match=r"objective\.\w+: 4 values for 2 block_sizes"):
        small(name, block_sizes=(8, 8))
    assert len(changed(name, 2, {"block_sizes": [8, 8]}, "here").objective.keep) == 2
    with pytest.raises(ConfigError, match="here: block_sizes"):
        changed(name, 2, {"block_sizes": "wide"}, "here")


def test_wrong_names_are_refused():
    """A misspelt condition names the near miss; with one level there is own alone."""
    with pytest.raises(ValueError, match="did you mean 'inverted'"):
        condition("invertd")
    with pytest.raises(ValueError, match="needs two levels"):
        condition("v5", num_levels=1)
