"""What is known of posts and viewers is looked up by id, as of an instant."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.facts import CODE_IDS, CODES, KINDS, Facts, Rates, find
from pipelines.schema import ACTION_NAMES, POSTS, SPLITS
from train.rows import flatten, read_examples

CLICK = ACTION_NAMES.index("click")
CHANGES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 9)), unique=True, min_size=1, max_size=12
)


@given(CHANGES, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12_000)), min_size=1))
def test_counts_are_those_of_the_last_change(changes, asked):
    """Before its first change an id has no counts; a change holds from its own instant."""
    changes = sorted(changes)
    ids, seconds = np.array(changes).T
    shown = np.arange(1, len(changes) + 1)
    table = pa.table({"id": ids, "from_ms": seconds * 1000, "shown": shown, "click": shown * 2})
    rates = Rates.of(table, ACTION_NAMES)
    got = rates.before(*np.array(asked).T)

    for (id_, at_ms), counts in zip(asked, got, strict=True):
        mine = (ids == id_) & (seconds * 1000 <= at_ms)
        newest = shown[mine].max(initial=0)
        assert (counts[0], counts[1 + CLICK], counts.sum()) == (newest, 2 * newest, 3 * newest)


def test_nothing_counted_is_nothing_known():
    """A log without authors or topics leaves their counts empty, and zeros for all ids."""
    nothing = pa.table({name: pa.array([], pa.int64()) for name in ("id", "from_ms", "shown")})
    ids = np.array([[0, 7]])

    assert Rates.of(nothing, ACTION_NAMES).before(ids, ids).tolist() == [
        [[0.0] * (1 + len(ACTION_NAMES))] * 2
    ]


def test_the_log_is_counted_up_to_the_hour(prepared):
    """Counts of prepared data equal counting the log's rows before the last full hour."""
    facts, log = Facts.load(prepared), flatten(read_examples(prepared, *SPLITS))
    hour_ms = log.shown_at_ms // 3_600_000 * 3_600_000
    for row in range(0, len(log), 997):
        for kind, key in (("post", log.post_id), ("author", log.author_id)):
            before = (key == key[row]) & (log.shown_at_ms < hour_ms[row])
            got = facts.counts(kind, key[[row]], log.shown_at_ms[[row]], len(ACTION_NAMES))[0]
            assert got[0] == before.sum()
            assert got[1 + CLICK] == log.label(CLICK)[before].sum()


def test_a_bundle_knows_what_the_data_knows(prepared, bundle):
    """From the end of the log on, a bundle's facts are those that the models were trained with."""
    data, served = Facts.load(prepared), bundle.facts
    assert set(data.rates) == set(KINDS)
    for name in ("post_id", "created_at_ms", "duration_s", "topic", "user_id", "attribute"):
        np.testing.assert_array_equal(getattr(served, name), getattr(data, name), err_msg=name)
    for after_ms, kind in itertools.product((0, 60_000, 3_600_000), KINDS):
        ids = data.rates[kind].id
        at_ms = np.full(len(ids), bundle.as_of_ms + after_ms)
        counts = data.counts(kind, ids, at_ms, len(ACTION_NAMES))
        assert counts[:, 0].any()
        np.testing.assert_array_equal(served.counts(kind, ids, at_ms, len(ACTION_NAMES)), counts)


def test_codes_follow_their_posts(prepared, tmp_path):
    """Arrays in any order of posts are read by id; posts that they lack have none."""
    for name in ("posts", "users"):
        (tmp_path / f"{name}.parquet").write_bytes((prepared / f"{name}.parquet").read_bytes())
    ids = pl.read_parquet(prepared / "posts.parquet")["post_id"].sort().to_numpy()
    np.save(tmp_path / CODE_IDS, ids[::2])
    np.save(tmp_path / CODES, np.stack([ids[::2], ids[::2] + 1], axis=1).astype(np.int16))
    facts = Facts.load(tmp_path, ACTION_NAMES)

    np.testing.assert_array_equal(facts.codes[facts.post_row(ids[::2])][:, 0], ids[::2])
    assert not facts.codes[facts.post_row(ids[1::2])].any()
    assert not facts.codes[facts.post_row(np.array([0, 10**9]))].any()
    np.save(tmp_path / CODE_IDS, ids)
    with pytest.raises(ValueError, match=r"codes\.npy has \d+ rows, code_ids\.npy"):
        Facts.load(tmp_path, ACTION_NAMES)


def test_equal_facts_have_equal_numbers(tmp_path, prepared):
    """A profile fact has one number, whoever has it; unknown viewers have none."""
    users = pl.read_parquet(prepared / "users.parquet").head(2)
    users = users.with_columns(
        attributes=pl.Series([["a=1", "b=2"], ["b=2"]]), num_followers=pl.Series([5, 6])
    )
    pq.write_table(users.to_arrow(), tmp_path / "users.parquet")
    (tmp_path / "posts.parquet").write_bytes((prepared / "posts.parquet").read_bytes())
    facts = Facts.load(tmp_path, ACTION_NAMES)
    first, second, unknown = facts.attribute[facts.user_row(np.array([*users["user_id"], 10**9]))]

    assert first[1] == second[0] != first[0]
    assert first[2] == second[2] > 0  # both have between 3 and 7 followers
    assert not unknown.any()


NEW_IDS = st.lists(st.lists(st.integers(795, 820), max_size=6), max_size=5)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NEW_IDS, st.lists(st.integers(795, 820), max_size=4))
def test_posts_added_later_are_known_like_others(prepared, batches, gone):
    """In batches of any kind, told once or twice, and some taken back, facts are what was told.

    What the data has, posts 1 to 800, stays as it was; facts given before do not change.
    """
    base = Facts.load(prepared)
    facts, told = base, set()
    for ids in batches:
        before = facts, None if facts.newer is None else facts.newer.post_id.tolist()
        facts = facts.with_posts(new_posts(ids))
        told.update(ids)
        assert before[1] == (None if before[0].newer is None else before[0].newer.post_id.tolist())
    facts = facts.without_posts(np.array(gone, np.int64))
    asked = np.arange(780, 830).reshape(5, 10)
    created, topic, duration = facts.of_posts(asked, "created_at_ms", "topic", "duration_s")
    old = base.of_posts(asked, "created_at_ms", "topic", "duration_s")
    new = np.isin(asked, [one for one in told if one > 800 and one not in gone])
    np.testing.assert_array_equal(created, np.where(new, asked * 1000, old[0]))
    np.testing.assert_array_equal(
        topic[new], np.stack([asked[new], 0 * asked[new], 0 * asked[new]], 1)
    )
    np.testing.assert_array_equal(topic[~new], old[1][~new])
    np.testing.assert_array_equal(duration, np.where(new, asked / 2, old[2]))


def new_posts(ids: list[int]) -> pa.Table:
    """Posts whose facts follow from their ids."""
    rows = [
        {"post_id": one, "created_at_ms": one * 1000, "topic_ids": [one], "duration_s": one / 2}
        for one in ids
    ]
    return pa.Table.from_pylist(rows, POSTS.arrow)


def test_nothing_is_found_in_nothing():
    """An empty table answers -1 for every id."""
    assert find(np.array([1, 2]), np.empty(0, np.int64)).tolist() == [-1, -1]
